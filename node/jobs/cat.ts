/**
 * `cat` streams one file, or a range of it, in order; `ls LINK` lists without fetching content.
 *
 * Both hold a share for as long as somebody reads, and let go of it however the reading ends: what came stays in the cache (disk-cache.ts).
 */
import { createHash } from 'node:crypto'
import { equalBytes } from '../../protocol/bytes.ts'
import type { Entry } from '../../protocol/entry.ts'
import { EXIT, FormatError } from '../../protocol/errors.ts'
import type { ShareReader } from '../../protocol/reader.ts'
import { stretchesOf } from '../../protocol/stretches.ts'
import type { ByteRange, CatRequest, JobEvent, ListedEntry, ListRequest } from '../control/api.ts'
import { JobError } from '../control/api.ts'
import type { JobEnvironment } from './environment.ts'
import { notInShare, type OpenRequest, parseReadable, type ReadableShare, readerOf, refuseBombs, withShare } from './open.ts'
import { readAhead } from './read-ahead.ts'

type OnEvent = (event: JobEvent) => void

/** Streams one file, or a range of it, in order, fetching a little ahead. */
export async function* catJob(env: JobEnvironment, request: CatRequest, onEvent: OnEvent, outer: AbortSignal): AsyncGenerator<Uint8Array> {
  yield* streamed(env, request, onEvent, outer, async function* ({ reader, live, signal }, under) {
    refuseBombs(reader, request.consent)
    const entry = await onlyFile(reader, under)
    const { startBytes, endBytes } = boundsOf(request.range, entry.sizeBytes)
    const stretches = stretchesOf(entry, startBytes, endBytes)
    const bytes = readAhead({ live, reader, pool: env.pool, stretches, signal })
    yield* endBytes - startBytes === entry.sizeBytes ? hashed(bytes, entry) : bytes
  })
}

/** Lists the entries of a share, or of a folder in it, in order. */
export async function* listJob(
  env: JobEnvironment,
  request: ListRequest,
  onEvent: OnEvent,
  outer: AbortSignal,
): AsyncGenerator<ListedEntry> {
  yield* streamed(env, request, onEvent, outer, async function* ({ reader }, under) {
    let isEmpty = true
    for await (const entry of reader.entriesUnder(under)) {
      isEmpty = false
      yield listed(entry)
    }
    if (isEmpty && under !== '') throw notInShare(under)
  })
}

const listed = (entry: Entry): ListedEntry => ({
  path: [entry.dir, entry.name].filter((part) => part !== '').join('/'),
  sizeBytes: entry.sizeBytes,
  isDirectory: entry.name === '',
  executable: entry.executable,
})

async function onlyFile(reader: ShareReader, under: string): Promise<Entry> {
  let found: Entry | null = null
  for await (const entry of reader.entriesUnder(under)) {
    if (entry.name === '' || found !== null) {
      throw new JobError('NOT_ONE_FILE', 'only one file can go to standard output: name it with --path', { exitCode: EXIT.usage })
    }
    found = entry
  }
  if (found === null) throw notInShare(under)
  return found
}

/** From the first byte to the one after the last; what reaches beyond the end is cut there. Throws JobError BAD_RANGE. */
function boundsOf(range: ByteRange | null, sizeBytes: number): { startBytes: number; endBytes: number } {
  if (range === null) return { startBytes: 0, endBytes: sizeBytes }
  const { start, end } = range
  if (start < 0) {
    if (end !== null) throw new JobError('BAD_RANGE', 'a range that is counted from the end goes to the end')
    return { startBytes: Math.max(0, sizeBytes + start), endBytes: sizeBytes }
  }
  if (end !== null && end < start) throw new JobError('BAD_RANGE', `the range ${start}-${end} ends before it begins`)
  if (start >= sizeBytes) throw new JobError('BAD_RANGE', `the range begins at byte ${start}, and the file has ${sizeBytes} bytes`)
  return { startBytes: start, endBytes: end === null ? sizeBytes : Math.min(end + 1, sizeBytes) }
}

/** Passes a whole file on and fails with X8 after its last byte when it is not what its publisher stated. */
async function* hashed(bytes: AsyncIterable<Uint8Array>, { sha256 }: Entry): AsyncGenerator<Uint8Array> {
  const hash = sha256 === undefined ? null : createHash('sha256')
  for await (const chunk of bytes) {
    hash?.update(chunk)
    yield chunk
  }
  if (hash === null || sha256 === undefined || equalBytes(new Uint8Array(hash.digest()), sha256)) return
  throw new FormatError('X8', 'the content is not what its stated SHA-256 says')
}

/** A share opened for reading only, as an async generator that lets go of it however it ends. */
async function* streamed<T>(
  env: JobEnvironment,
  request: OpenRequest & { path: string | null },
  onEvent: OnEvent,
  outer: AbortSignal,
  read: (open: ReadableShare, under: string) => AsyncGenerator<T>,
): AsyncGenerator<T> {
  const link = await parseReadable(request.link)
  const stopped = new AbortController()
  const opened = Promise.withResolvers<ReadableShare>()
  const finished = Promise.withResolvers<void>()
  opened.promise.catch(() => {}) // thrown by the await below
  const holding = withShare(env, link, request, onEvent, AbortSignal.any([outer, stopped.signal]), async (open) => {
    const reader = await readerOf(env, { ...open, link })
    const following = env.cache.follow(open, reader.dataBlocks)
    opened.resolve({ ...open, reader })
    await finished.promise
    await following.end()
  })
  holding.catch((error: unknown) => opened.reject(error))
  try {
    yield* read(await opened.promise, request.path ?? link.path ?? '')
  } finally {
    finished.resolve()
    await holding.catch(() => {}) // its error, if any, is the one being thrown
    stopped.abort(new Error('reading ended'))
    await env.cache.settle().catch((error: unknown) => env.log.warn('the cache could not be brought to its size', { error }))
  }
}
