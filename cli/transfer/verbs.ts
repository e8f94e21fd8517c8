/** `shoal export` and `shoal import`: a home's identity, keys and settings in one file, under a passphrase unless it is said otherwise. */
import { resolve } from 'node:path'
import { JobError, type ShoalApi } from '../../node/control/api.ts'
import { defaultHome } from '../../node/paths.ts'
import { EXIT } from '../../protocol/errors.ts'
import { BUNDLE } from '../../protocol/limits.ts'
import { count, formatFields } from '../format.ts'
import type { Io } from '../io.ts'
import type { Report } from '../report.ts'
import { AgeError, isAge, openUnder, sealUnder } from './age.ts'
import { askPassphrase, passphraseFrom } from './passphrase.ts'
import { readFileUpTo, writePrivateFile } from './private-file.ts'

export interface ExportCall {
  verb: 'export'
  file: string
  passphraseFile: string | null
  noPassphrase: boolean
}

export interface ImportCall {
  verb: 'import'
  file: string
  passphraseFile: string | null
}

export async function runExport(call: ExportCall, at: { api: ShoalApi; io: Io; report: Report; signal: AbortSignal }): Promise<number> {
  const { api, io, report, signal } = at
  const file = resolve(io.cwd, call.file)
  const passphrase = call.noPassphrase ? null : await passphraseOf(call.passphraseFile, io, true, signal)
  const bundle = await api.exportHome(signal)
  const plain = new TextEncoder().encode(JSON.stringify(bundle))
  if (plain.length > BUNDLE.bytesMax)
    throw new JobError('TOO_LARGE', `the records have ${plain.length} bytes, limit ${BUNDLE.bytesMax}`, { exitCode: EXIT.badInput })
  await writePrivateFile(file, passphrase === null ? plain : await sealUnder(passphrase, plain))
  const shares = bundle.records.tables.share?.length ?? 0
  await report.answer({ file, shares, encrypted: passphrase !== null }, `${file}\n`)
  report.note(`${count(shares, 'share')} with keys, the identity and the settings; no blocks.`)
  if (passphrase === null) report.warn('the file is not encrypted: whoever reads it can read all your shares and pass for your node')
  return EXIT.ok
}

export async function runImport(
  call: ImportCall,
  home: string | null,
  at: { io: Io; report: Report; signal: AbortSignal },
): Promise<number> {
  const { io, report, signal } = at
  const bytes = await readFileUpTo(resolve(io.cwd, call.file), BUNDLE.fileBytesMax)
  const plain = isAge(bytes) ? await opened(bytes, await passphraseOf(call.passphraseFile, io, false, signal), call.file) : bytes
  let bundle: unknown
  try {
    bundle = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(plain))
  } catch {
    // The cause would quote what may be keys.
    throw new JobError('BAD_INPUT', `${call.file} is not what \`shoal export\` wrote, or is damaged`)
  }
  const result = await io.importHome(home ?? defaultHome(), bundle)
  await report.answer(
    result,
    formatFields([
      ['home', result.home],
      ['peer id', result.peerId],
      ['shares', String(result.shares)],
    ]),
  )
  report.note('Blocks do not come with it: `share`, `seed` or `get` again makes a share complete. Never run two nodes with one identity.')
  return EXIT.ok
}

const passphraseOf = (file: string | null, io: Io, isNew: boolean, signal: AbortSignal): Promise<string> =>
  file === null ? askPassphrase(io, isNew, signal) : passphraseFrom(file, io)

async function opened(bytes: Uint8Array, passphrase: string, file: string): Promise<Uint8Array> {
  try {
    return await openUnder(passphrase, bytes)
  } catch (cause) {
    if (cause instanceof AgeError) throw new JobError('BAD_INPUT', `${file}: ${cause.message}`, { cause })
    throw cause
  }
}
