/**
 * Files and folders of the simulated disk: what running programs see, and what a power cut leaves of it.
 *
 * The rules are the weakest that a POSIX file system may keep. Of what was not synced each change survives or not by itself: data
 * may be lost, kept, or torn at sectors; a size may stay without its data, over old bytes of the disk; of the changes to one name a
 * first part survives, and different names know nothing of each other, not even the two of one rename (only a folder is never in two
 * places). A failed sync keeps any part
 * of a file's data, or of the names of files in a folder, and forgets about the rest: a second sync succeeds and saves none of it.
 */
import type { Random } from '../sim/crowd/random.ts'

const SECTOR_BYTES = 512

export type SimNode = SimFile | SimFolder

type FileChange = { at: number; bytes: Uint8Array } | { sizeBytes: number }

/** How a change came out of a power cut; counted, so that a test can tell that all of it happens. */
export type Fate = (what: 'lostData' | 'tornData' | 'sizeWithoutData' | 'lostName') => void

export class SimFile {
  readonly kind = 'file'
  readonly mode: number
  readonly id: number
  /** As every program sees it. */
  bytes: Uint8Array = new Uint8Array(0)
  /** Names that it has, as every program sees them. */
  links = 0
  /** A sync of it has failed: whoever calls the next one believes that it can succeed. */
  hasFailedSync = false
  #durable: Uint8Array = new Uint8Array(0)
  #pending: FileChange[] = []

  constructor(id: number, mode: number) {
    this.id = id
    this.mode = mode
  }

  write(at: number, bytes: Uint8Array): void {
    this.bytes = resized(this.bytes, Math.max(this.bytes.length, at + bytes.length))
    this.bytes.set(bytes, at)
    this.#pending.push({ at, bytes: bytes.slice() })
  }

  truncate(sizeBytes: number): void {
    this.bytes = resized(this.bytes, sizeBytes)
    this.#pending.push({ sizeBytes })
  }

  // Change by change: what a failed sync has forgotten is not saved by this one.
  sync(): void {
    for (const change of this.#pending) {
      if ('sizeBytes' in change) this.#durable = resized(this.#durable, change.sizeBytes)
      else {
        this.#durable = resized(this.#durable, Math.max(this.#durable.length, change.at + change.bytes.length))
        this.#durable.set(change.bytes, change.at)
      }
    }
    this.#pending = []
  }

  failSync(random: Random): void {
    this.#durable = this.#survivor(random, () => {})
    this.#pending = []
    this.hasFailedSync = true
  }

  cut(random: Random, fate: Fate): void {
    this.#durable = this.#survivor(random, fate)
    this.#pending = []
    this.bytes = this.#durable.slice()
    this.hasFailedSync = false
  }

  #survivor(random: Random, fate: Fate): Uint8Array {
    if (this.#pending.length === 0) return this.#durable
    const sizes = [this.#durable.length]
    for (const change of this.#pending) {
      sizes.push('sizeBytes' in change ? change.sizeBytes : Math.max(sizes.at(-1)!, change.at + change.bytes.length))
    }
    const sizeBytes = sizes[random.below(sizes.length)]!
    const survived = resized(this.#durable, sizeBytes)
    if (random.below(2) === 0) survived.fill(0xdb, Math.min(sizeBytes, this.#durable.length)) // what the disk held before
    for (const change of this.#pending) {
      if ('sizeBytes' in change) continue
      const lot = random.below(3)
      if (lot === 0) {
        fate(sizeBytes > this.#durable.length ? 'sizeWithoutData' : 'lostData')
        continue
      }
      if (lot === 1) fate('tornData')
      for (let at = change.at; at < Math.min(change.at + change.bytes.length, sizeBytes); ) {
        const end = Math.min((Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES, change.at + change.bytes.length, sizeBytes)
        if (lot === 2 || random.below(2) === 0) survived.set(change.bytes.subarray(at - change.at, end - change.at), at)
        at = end
      }
    }
    return survived
  }
}

export class SimFolder {
  readonly kind = 'folder'
  readonly mode: number
  readonly id: number
  /** Where it was put last. */
  parent: SimFolder | null = null
  /** As every program sees it. */
  entries = new Map<string, SimNode>()
  #durable = new Map<string, SimNode>()
  #pending: { name: string; node: SimNode | null }[] = []

  constructor(id: number, mode: number) {
    this.id = id
    this.mode = mode
  }

  /** Gives a name to a node, or (null) takes it away. */
  set(name: string, node: SimNode | null): void {
    const before = this.entries.get(name)
    if (before?.kind === 'file') before.links--
    if (node?.kind === 'file') node.links++
    if (node === null) this.entries.delete(name)
    else this.entries.set(name, node)
    if (node?.kind === 'folder') node.parent = this
    this.#pending.push({ name, node })
  }

  sync(): void {
    for (const { name, node } of this.#pending) {
      if (node === null) this.#durable.delete(name)
      else this.#durable.set(name, node)
    }
    this.#pending = []
  }

  failSync(random: Random): void {
    const folders = this.#pending.filter(({ node }) => node?.kind === 'folder')
    this.#pending = this.#pending.filter(({ node }) => node?.kind !== 'folder')
    this.#keepSome(random, () => {})
    this.#pending = folders
  }

  /** `seen` is all that was met so far: what has two names is cut once. */
  cut(random: Random, fate: Fate, seen: Set<SimNode> = new Set()): void {
    this.#keepSome(random, fate)
    for (const [name, node] of this.#durable) {
      // The place that a folder was moved to, where that survived, is the only one.
      if (node.kind === 'folder' && node.parent !== null && node.parent !== this && node.parent.#holds(node, random, fate))
        this.#durable.delete(name)
      else if (!seen.has(node)) {
        seen.add(node)
        if (node.kind === 'file') node.cut(random, fate)
        else node.cut(random, fate, seen)
      }
    }
    for (const node of this.#durable.values()) if (node.kind === 'folder') node.parent = this
    this.entries = new Map(this.#durable)
  }

  #holds(node: SimNode, random: Random, fate: Fate): boolean {
    this.#keepSome(random, fate)
    return [...this.#durable.values()].includes(node)
  }

  #keepSome(random: Random, fate: Fate): void {
    const ended = new Set<string>()
    for (const { name, node } of this.#pending) {
      if (ended.has(name)) continue
      if (random.below(2) === 0) {
        ended.add(name)
        fate('lostName')
      } else if (node === null) this.#durable.delete(name)
      else this.#durable.set(name, node)
    }
    this.#pending = []
  }
}

/** Counts the names of all files below a folder anew. */
export function countLinks(folder: SimFolder): void {
  const files = filesBelow(folder)
  for (const file of files) file.links = 0
  for (const file of files) file.links++
}

/** Each as often as it has names. */
const filesBelow = (folder: SimFolder): SimFile[] =>
  [...folder.entries.values()].flatMap((node) => (node.kind === 'file' ? [node] : filesBelow(node)))

function resized(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  const changed = new Uint8Array(sizeBytes)
  changed.set(bytes.subarray(0, sizeBytes))
  return changed
}
