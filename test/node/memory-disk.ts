/** A disk of the user's files in memory, with a clock that ticks at every change; changes can also be made so that nothing shows. */
import type { FileState, OpenSource, SourceDisk } from '../../node/storage/source-disk.ts'
import { systemError } from './storage-fakes.ts'

interface Inode {
  number: bigint
  bytes: Uint8Array
  modifiedNs: bigint
  changedNs: bigint
  kind: 'file' | 'other'
  isReadable: boolean
}

export class MemoryDisk implements SourceDisk {
  /** Called before each look and each read. */
  onAccess: () => void = () => {}
  readonly #names = new Map<string, Inode>()
  #ticks = 1_000n

  write(path: string, bytes: Uint8Array): void {
    const now = ++this.#ticks
    const fresh: Inode = { number: now, bytes: bytes.slice(), modifiedNs: now, changedNs: now, kind: 'file', isReadable: true }
    this.#names.set(path, fresh)
  }

  /** Changes a file in place; `silently` leaves its state as it was. */
  edit(path: string, change: (bytes: Uint8Array) => Uint8Array, silently = false): void {
    const inode = this.#names.get(path)
    if (inode === undefined || inode.kind !== 'file') return
    inode.bytes = change(inode.bytes.slice())
    if (!silently) inode.modifiedNs = inode.changedNs = ++this.#ticks
  }

  touch(path: string): void {
    this.edit(path, (bytes) => bytes)
  }

  remove(path: string): void {
    this.#names.delete(path)
  }

  /** Something else stands there: a link, a folder, a pipe. */
  obstruct(path: string): void {
    this.write(path, new Uint8Array(0))
    this.#names.get(path)!.kind = 'other'
  }

  setReadable(path: string, isReadable: boolean): void {
    const inode = this.#names.get(path)
    if (inode === undefined) return
    inode.isReadable = isReadable
    inode.changedNs = ++this.#ticks
  }

  swap(a: string, b: string): void {
    const [one, other] = [this.#names.get(a), this.#names.get(b)]
    if (one === undefined || other === undefined) return
    this.#names.set(a, other)
    this.#names.set(b, one)
    one.changedNs = other.changedNs = ++this.#ticks
  }

  /** What a reader of the path would get; null when that is nothing. */
  content(path: string): Uint8Array | null {
    const inode = this.#names.get(path)
    return inode !== undefined && inode.kind === 'file' && inode.isReadable ? inode.bytes : null
  }

  state(path: string): FileState | null {
    const inode = this.#names.get(path)
    return inode === undefined ? null : stateOf(inode)
  }

  async open(path: string): Promise<OpenSource> {
    this.onAccess()
    const inode = this.#names.get(path)
    if (inode === undefined) throw systemError('ENOENT')
    if (!inode.isReadable) throw systemError('EACCES')
    if (inode.kind === 'other') throw systemError('ELOOP')
    return {
      state: async () => {
        this.onAccess()
        return stateOf(inode)
      },
      read: async (target, position) => {
        this.onAccess()
        const bytes = inode.bytes.subarray(position, position + target.length)
        target.set(bytes)
        return bytes.length
      },
      close: async () => {},
    }
  }

  async lookAt(path: string): Promise<FileState | null> {
    this.onAccess()
    const inode = this.#names.get(path)
    if (inode === undefined) throw systemError('ENOENT')
    return stateOf(inode)
  }
}

const stateOf = ({ number, bytes, modifiedNs, changedNs, kind }: Inode): FileState | null =>
  kind === 'file' ? { device: 1n, inode: number, sizeBytes: BigInt(bytes.length), modifiedNs, changedNs } : null
