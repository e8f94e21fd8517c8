/** Changes some settings in HOME/config.json and leaves the others as they are. The file is the old one or the new one, never a part. */
import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { checkSettings, configPathOf, readSettings } from '../config.ts'
import type { Settings } from '../settings.ts'
import { naming, systemCode } from '../storage/file-error.ts'
import { diskFileSystem as fs } from '../storage/fs.ts'

/** Names with a value are set, names with undefined are taken out. Throws JobError BAD_CONFIG when the file would not be sound. */
export async function saveSettings(home: string, changes: { [K in keyof Settings]?: Settings[K] | undefined }): Promise<void> {
  const path = await realPath(configPathOf(home))
  const settings = Object.entries({ ...(await readSettings(path)), ...changes }).filter(([, value]) => value !== undefined)
  checkSettings(Object.fromEntries(settings), `config file ${path}`)
  const bytes = new TextEncoder().encode(`${JSON.stringify(Object.fromEntries(settings), null, 2)}\n`)
  await naming('writing', path, () => replace(path, bytes))
}

/** Where a link leads: the file behind it is what is replaced, not the link. */
async function realPath(path: string): Promise<string> {
  try {
    return await fs.realpath(path)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return path
    throw error
  }
}

async function replace(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(dirname(path), `.config.json.${randomBytes(16).toString('hex')}.tmp`)
  const file = await fs.open(temporary, 'create', await modeOf(path))
  try {
    try {
      await file.write(bytes, 0)
      await file.datasync()
    } finally {
      await file.close()
    }
    await fs.rename(temporary, path)
  } catch (error) {
    await fs.remove(temporary, 'tree')
    throw error
  }
  await fs.syncDirectory(dirname(path))
}

async function modeOf(path: string): Promise<number> {
  try {
    return (await fs.lstat(path)).mode
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 0o600
    throw error
  }
}
