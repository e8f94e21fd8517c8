/**
 * The files behind a share that is kept in place: where each lies and the state in which it was read or written, and the bytes of that
 * as they are kept in HOME/sources.
 *
 * Files are numbered in the order of the share. Layout, big-endian: "shoalsrc", u8 version, u32 bytes and the plaintext of the root block
 * without its padding (which may be a megabyte), u8 number of trees, the trees, and at the end the SHA-256 of all before. A tree: u8 kind, text under, u32 folders, each u16 bytes shared with the one before and text for the rest,
 * u32 files, each u32 folder, text name, and 5 × u64 state (all zero: not watched). A text: u16 bytes, UTF-8.
 */
import { createHash } from 'node:crypto'
import { dirname, join } from 'node:path'
import { SOURCES } from '../../protocol/limits.ts'
import { FileError } from './file-error.ts'
import type { FileState } from './source-disk.ts'

/** Five words a file: device, inode, size, modified, changed. */
const STATE_WORDS = 5
const MAGIC = 'shoalsrc'
const VERSION = 1
const HASH_BYTES = 32

/** Files of one share below one place. 'written': whole files; 'writing': the part folder of a `get` that is not done, whose files are
 *  not listed. */
export class SourceTree {
  readonly kind: 'written' | 'writing'
  /** The part of the share that these files are: '' for all, else a path in it. */
  readonly under: string
  /** Absolute. */
  readonly folders: readonly string[]
  readonly names: readonly string[]
  readonly #folderOf: Uint32Array
  readonly #states: BigUint64Array

  constructor(init: {
    kind: 'written' | 'writing'
    under: string
    folders: readonly string[]
    names: readonly string[]
    folderOf: Uint32Array
    states: BigUint64Array
  }) {
    this.kind = init.kind
    this.under = init.under
    this.folders = init.folders
    this.names = init.names
    this.#folderOf = init.folderOf
    this.#states = init.states
  }

  /** From absolute paths in the order of the share, and what was seen of each; null: not to be watched. */
  static of(under: string, paths: readonly string[], states: readonly (FileState | null)[]): SourceTree {
    const folders: string[] = []
    const ids = new Map<string, number>()
    const names: string[] = []
    const folderOf = new Uint32Array(paths.length)
    for (const [file, path] of paths.entries()) {
      const folder = dirname(path)
      let id = ids.get(folder)
      if (id === undefined) {
        id = folders.length
        folders.push(folder)
        ids.set(folder, id)
      }
      folderOf[file] = id
      names.push(path.slice(folder === '/' ? 1 : folder.length + 1))
    }
    const tree = new SourceTree({
      kind: 'written',
      under,
      folders,
      names,
      folderOf,
      states: new BigUint64Array(STATE_WORDS * paths.length),
    })
    for (const [file, state] of states.entries()) tree.setState(file, state)
    return tree
  }

  /** The part folder of a `get` that is under way. */
  static writing(under: string, partFolder: string): SourceTree {
    const none = { names: [], folderOf: new Uint32Array(0), states: new BigUint64Array(0) }
    return new SourceTree({ kind: 'writing', under, folders: [partFolder], ...none })
  }

  get files(): number {
    return this.names.length
  }

  pathOf(file: number): string {
    return join(this.folders[this.#folderOf[file]!]!, this.names[file]!)
  }

  /** Null where the file is not watched: no block needs it. */
  stateOf(file: number): FileState | null {
    const at = STATE_WORDS * file
    const [device = 0n, inode = 0n, sizeBytes = 0n, modifiedNs = 0n, changedNs = 0n] = this.#states.subarray(at, at + STATE_WORDS)
    if (device === 0n && inode === 0n && changedNs === 0n) return null
    return { device, inode, sizeBytes, modifiedNs: BigInt.asIntN(64, modifiedNs), changedNs: BigInt.asIntN(64, changedNs) }
  }

  setState(file: number, state: FileState | null): void {
    const at = STATE_WORDS * file
    if (state === null) {
      this.#states.fill(0n, at, at + STATE_WORDS)
      return
    }
    const { device, inode, sizeBytes, modifiedNs, changedNs } = state
    this.#states.set(
      [device, inode, sizeBytes, modifiedNs, changedNs].map((word) => BigInt.asUintN(64, word)),
      at,
    )
  }

  /** Whether both are the same part of the share at the same place. */
  replaces(other: SourceTree): boolean {
    return this.under === other.under && this.files === other.files && this.folders.join('\0') === other.folders.join('\0')
  }

  encode(to: Writer): void {
    to.u8(this.kind === 'written' ? 0 : 1)
    to.text(this.under)
    to.u32(this.folders.length)
    let before = new Uint8Array(0)
    for (const folder of this.folders) {
      const bytes = utf8.encode(folder)
      let shared = 0
      while (shared < bytes.length && shared < before.length && bytes[shared] === before[shared]) shared++
      to.u16(shared)
      to.bytes(bytes.subarray(shared))
      before = bytes
    }
    to.u32(this.files)
    for (const [file, name] of this.names.entries()) {
      to.u32(this.#folderOf[file]!)
      to.text(name)
      for (let word = 0; word < STATE_WORDS; word++) to.u64(this.#states[STATE_WORDS * file + word]!)
    }
  }

  static decode(from: Reader): SourceTree {
    const kind = from.u8() === 0 ? 'written' : 'writing'
    const under = from.text()
    const folders: string[] = []
    let before = new Uint8Array(0)
    for (let left = from.count(4); left > 0; left--) {
      const shared = from.u16()
      const rest = from.bytes()
      if (shared > before.length) throw damaged()
      const bytes = new Uint8Array(shared + rest.length)
      bytes.set(before.subarray(0, shared))
      bytes.set(rest, shared)
      folders.push(decoder.decode(bytes))
      before = bytes
    }
    const files = from.count(6 + 8 * STATE_WORDS)
    const names: string[] = []
    const folderOf = new Uint32Array(files)
    const states = new BigUint64Array(STATE_WORDS * files)
    for (let file = 0; file < files; file++) {
      folderOf[file] = from.u32()
      if (folderOf[file]! >= folders.length) throw damaged()
      names.push(from.text())
      for (let word = 0; word < STATE_WORDS; word++) states[STATE_WORDS * file + word] = from.u64()
    }
    return new SourceTree({ kind, under, folders, names, folderOf, states })
  }
}

/** What is kept of one share in place. */
export interface SourceList {
  /** Of the root block, without the zeros at its end; empty while that lies in the block store. */
  rootPlain: Uint8Array
  trees: SourceTree[]
}

/** A list as one file. */
export function encodeSources({ rootPlain, trees }: SourceList): Uint8Array {
  if (trees.length > SOURCES.treesMax) throw new RangeError(`${trees.length} source trees, limit ${SOURCES.treesMax}`)
  const to = new Writer()
  to.raw(utf8.encode(MAGIC))
  to.u8(VERSION)
  to.u32(rootPlain.length)
  to.raw(rootPlain)
  to.u8(trees.length)
  for (const tree of trees) tree.encode(to)
  const body = to.done()
  to.raw(new Uint8Array(createHash('sha256').update(body).digest()))
  return to.done()
}

/** FileError CORRUPT, or NEWER when a later version wrote it. */
export function decodeSources(bytes: Uint8Array): SourceList {
  const split = bytes.length - HASH_BYTES
  if (split < MAGIC.length + 2 || decoder.decode(bytes.subarray(0, MAGIC.length)) !== MAGIC) throw damaged()
  const sum = createHash('sha256').update(bytes.subarray(0, split)).digest()
  if (Buffer.compare(sum, bytes.subarray(split)) !== 0) throw damaged()
  const from = new Reader(bytes.subarray(MAGIC.length, split))
  const version = from.u8()
  if (version !== VERSION) throw new FileError('NEWER', `the list of source files is of version ${version}: use a newer Shoal`)
  const rootPlain = from.raw(from.count(1)).slice()
  const trees = Array.from({ length: from.u8() }, () => SourceTree.decode(from))
  if (!from.isAtEnd || trees.length > SOURCES.treesMax) throw damaged()
  return { rootPlain, trees }
}

const damaged = (): FileError => new FileError('CORRUPT', 'the list of source files of a share is damaged')

const utf8 = new TextEncoder()
const decoder = new TextDecoder()

/** Grows by doubling. */
class Writer {
  #bytes = new Uint8Array(4096)
  #view = new DataView(this.#bytes.buffer)
  #at = 0

  u8(value: number): void {
    const at = this.#room(1)
    this.#view.setUint8(at, value)
  }

  u16(value: number): void {
    if (value > 0xffff) throw new RangeError(`${value} in two bytes`)
    const at = this.#room(2)
    this.#view.setUint16(at, value)
  }

  u32(value: number): void {
    const at = this.#room(4)
    this.#view.setUint32(at, value)
  }

  u64(value: bigint): void {
    const at = this.#room(8)
    this.#view.setBigUint64(at, value)
  }

  text(value: string): void {
    this.bytes(utf8.encode(value))
  }

  bytes(value: Uint8Array): void {
    this.u16(value.length)
    this.raw(value)
  }

  raw(value: Uint8Array): void {
    const at = this.#room(value.length)
    this.#bytes.set(value, at)
  }

  /** A view of all so far. */
  done(): Uint8Array {
    return this.#bytes.subarray(0, this.#at)
  }

  /** May replace the memory: call it before that is named. */
  #room(length: number): number {
    const at = this.#at
    this.#at += length
    if (this.#at > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#at, 2 * this.#bytes.length))
      larger.set(this.#bytes)
      this.#bytes = larger
      this.#view = new DataView(larger.buffer)
    }
    return at
  }
}

/** Throws FileError CORRUPT at the end of the bytes. */
class Reader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  u8 = (): number => this.#view.getUint8(this.#step(1))
  u16 = (): number => this.#view.getUint16(this.#step(2))
  u32 = (): number => this.#view.getUint32(this.#step(4))
  u64 = (): bigint => this.#view.getBigUint64(this.#step(8))

  /** A number of things that take at least `bytesEach` each. */
  count(bytesEach: number): number {
    const count = this.u32()
    if (count * bytesEach > this.#bytes.length - this.#at) throw damaged()
    return count
  }

  text(): string {
    return decoder.decode(this.bytes())
  }

  bytes(): Uint8Array {
    return this.raw(this.u16())
  }

  raw(length: number): Uint8Array {
    const at = this.#step(length)
    return this.#bytes.subarray(at, at + length)
  }

  #step(length: number): number {
    const at = this.#at
    if (at + length > this.#bytes.length) throw damaged()
    this.#at += length
    return at
  }
}
