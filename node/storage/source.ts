/**
 * Reads one file that is being shared, in chunks, and notices when it changes meanwhile: a share never mixes two states of a file.
 *
 * It does not say what the file should hold, only that it stayed the same between opening and the last byte.
 */
import { FileError, naming, showPath, systemCode } from './file-error.ts'
import { type FileState, isSameState, type OpenSource, type SourceDisk, sourceDisk } from './source-disk.ts'
import type { SourceFile } from './walk.ts'

/** The file's bytes; each chunk is a buffer of its own (from `allocate`) of exactly `chunkBytes`, the last may be shorter. FileError CHANGED before the
 *  last chunk is given when the file changed since it was opened, or is no regular file any more; NOT_FOUND, DENIED name the file.
 *  `onState` hears of the state in which all of it was read. */
export async function* readSource(
  file: SourceFile,
  chunkBytes: number,
  signal: AbortSignal,
  allocate: (sizeBytes: number) => Uint8Array = (sizeBytes) => new Uint8Array(sizeBytes),
  onState: (state: FileState) => void = () => {},
  disk: SourceDisk = sourceDisk,
): AsyncGenerator<Uint8Array> {
  signal.throwIfAborted()
  const handle = await openSource(disk, file.path)
  try {
    const before = await handle.state()
    if (before === null) throw changed(file.path, 'it is no regular file any more')
    const sizeBytes = Number(before.sizeBytes)
    for (let at = 0; at < sizeBytes; at += chunkBytes) {
      signal.throwIfAborted()
      const chunk = allocate(Math.min(chunkBytes, sizeBytes - at))
      await naming('reading', file.path, () => readFully(handle, chunk, at, file.path))
      if (at + chunk.length === sizeBytes) {
        assertSame(before, await handle.state(), file.path)
        onState(before)
      }
      yield chunk
    }
    if (sizeBytes === 0) {
      assertSame(before, await handle.state(), file.path)
      onState(before)
    }
  } finally {
    await handle.close()
  }
}

async function openSource(disk: SourceDisk, path: string): Promise<OpenSource> {
  try {
    return await disk.open(path)
  } catch (error) {
    if (systemCode(error) === 'ELOOP') throw changed(path, 'it became a symbolic link')
    return naming('opening', path, () => Promise.reject(error))
  }
}

async function readFully(handle: OpenSource, chunk: Uint8Array, at: number, path: string): Promise<void> {
  const count = await handle.read(chunk, at)
  if (count < chunk.length) throw changed(path, `it ended at byte ${at + count}`)
}

function assertSame(before: FileState, after: FileState | null, path: string): void {
  if (after === null || !isSameState(before, after)) throw changed(path, 'it was modified')
}

const changed = (path: string, how: string): FileError =>
  new FileError('CHANGED', `${showPath(path)} changed while it was being read: ${how}`, { path })
