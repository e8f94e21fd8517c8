/** Files that hold secrets: written whole, durable and for this user alone, and never over another; read up to a limit. */
import { randomBytes } from 'node:crypto'
import { link, open, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { JobError } from '../../node/control/api.ts'

/** Throws JobError EXISTS when anything stands at `file`. */
export async function writePrivateFile(file: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${file}.${randomBytes(8).toString('hex')}.part`
  try {
    try {
      const handle = await open(temporary, 'wx', 0o600)
      try {
        await handle.writeFile(bytes)
        await handle.sync()
      } finally {
        await handle.close()
      }
      await publish(temporary, file)
    } finally {
      await unlink(temporary).catch(ignoreMissing)
    }
    const folder = await open(dirname(file), 'r')
    await folder.sync().finally(() => folder.close())
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : ''
    if (code === 'EEXIST') throw new JobError('EXISTS', `${file} exists and is not replaced; choose another name`, { cause })
    if (code === 'ENOSPC' || code === 'EDQUOT') throw new JobError('NO_SPACE', `${file} cannot be written: disk full`, { cause })
    throw new JobError('DENIED', `${file} cannot be written (${code})`, { cause })
  }
}

/** Gives the file its name, and replaces nothing. */
async function publish(temporary: string, file: string): Promise<void> {
  try {
    // Unlike a rename, a link replaces nothing.
    await link(temporary, file)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && NO_LINKS.has(String(error.code)))) throw error
    // Where the file system has no second links, as on a memory stick, an empty file of ours keeps the place.
    await (await open(file, 'wx', 0o600)).close()
    await rename(temporary, file)
  }
}

const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}

/** Throws JobError BAD_INPUT for a file over `bytesMax`. */
export async function readFileUpTo(file: string, bytesMax: number): Promise<Uint8Array> {
  try {
    const handle = await open(file, 'r')
    try {
      const { size } = await handle.stat()
      if (size > bytesMax) throw new JobError('BAD_INPUT', `${file} has ${size} bytes, limit ${bytesMax}`)
      return await handle.readFile()
    } finally {
      await handle.close()
    }
  } catch (cause) {
    if (cause instanceof JobError) throw cause
    throw new JobError('NOT_FOUND', `${file} cannot be read`, { cause })
  }
}
