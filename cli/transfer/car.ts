/** `shoal export --car` and `shoal import --car`: the sealed blocks of a share in a file that IPFS nodes read and write. */
import { resolve } from 'node:path'
import type { ShoalApi } from '../../node/control/api.ts'
import { EXIT } from '../../protocol/errors.ts'
import { count, formatBytes } from '../format.ts'
import type { Io } from '../io.ts'
import { cidOf, type LinkSource, readLink } from '../link-source.ts'
import type { Report } from '../report.ts'

export interface ExportCarCall {
  verb: 'export-car'
  link: LinkSource
  file: string
  force: boolean
}

export interface ImportCarCall {
  verb: 'import-car'
  file: string
}

interface Setting {
  api: ShoalApi
  io: Io
  report: Report
  signal: AbortSignal
}

export async function runExportCar(call: ExportCarCall, { api, io, report, signal }: Setting): Promise<number> {
  // Only the content ID: the key of a link is not needed, and does not leave this process.
  const cid = cidOf(await readLink(call.link, io))
  const result = await api.exportCar({ cid, file: resolve(io.cwd, call.file), force: call.force }, report.onEvent, signal)
  await report.answer(result, `${result.file}\n`)
  report.note(`${count(result.blocks, 'block')}, ${formatBytes(result.fileBytes)}; root ${result.cid}. The key is not in it.`)
  return EXIT.ok
}

export async function runImportCar(call: ImportCarCall, { api, io, report, signal }: Setting): Promise<number> {
  const result = await api.importCar({ file: resolve(io.cwd, call.file) }, report.onEvent, signal)
  await report.answer(result, `${result.cid}\n`)
  report.note(`${formatBytes(result.wireBytes)}; ${count(result.newBlocks, 'new block')}, ${result.reusedBlocks} already here.`)
  report.note('Kept, and served whenever a node runs; `shoal get` with the share link reads it.')
  return EXIT.ok
}
