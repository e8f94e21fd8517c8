/**
 * A simulated disk behind node/storage's FileSystem, and the processes that use it one after another.
 *
 * Operations of a process wait in a queue and are carried out one by one in an order that the seed chooses, so concurrent work meets
 * in every way. A process dies when told to, before any chosen operation: what is still in the queue then happens, happens in part, or
 * does not, and nobody is told. A power cut takes what was not synced, by the rules of nodes.ts. Faults make operations fail.
 */
import { basename, dirname } from 'node:path'
import type { FileStat, FileSystem, OpenFile, OpenMode } from '../../node/storage/fs.ts'
import type { Random } from '../sim/crowd/random.ts'
import { countLinks, type Fate, SimFile, SimFolder, type SimNode } from './nodes.ts'

/** Makes the `skip + 1`th operation that fits fail with a system error, once. */
export interface Fault {
  operation: RegExp
  path: RegExp
  code: 'EIO' | 'ENOSPC' | 'EMFILE' | 'EROFS'
  skip: number
}

/** What an operation of a dead process is rejected with; the process never sees it. */
export class Dead extends Error {
  override name = 'Dead'
}

interface Waiting {
  /** Rounds that it still waits, as a slow sync does. */
  rounds: number
  execute(): void
  /** The process died meanwhile. */
  die(): void
}

const ROUNDS_MAX = 100_000

export class SimDisk {
  readonly root = new SimFolder(1, 0o755)
  readonly random: Random
  /** Rules that the code broke, in words. */
  readonly violations: string[] = []
  readonly happened = new Map<string, number>()
  readonly trace: ((line: string) => void) | null
  faults: Fault[] = []
  /** No room for any new byte or name. */
  isFull = false
  /** Carried out so far. */
  operations = 0
  #nextId = 2

  constructor(random: Random, trace: ((line: string) => void) | null = null) {
    this.random = random
    this.trace = trace
  }

  /** Makes folders that have always been there. */
  makeFolders(path: string): void {
    let folder = this.root
    for (const name of partsOf(path)) {
      const below = new SimFolder(this.newId(), 0o755)
      folder.set(name, below)
      folder.sync()
      folder = below
    }
  }

  /** The names in a folder, as the next process will see them. */
  names(path: string): string[] {
    return [...folderAt(this.root, path).entries.keys()]
  }

  /** The bytes of a file; null where there is none. */
  contents(path: string): Uint8Array | null {
    const node = lookUp(this.root, path)
    return node?.kind === 'file' ? node.bytes : null
  }

  newId(): number {
    return this.#nextId++
  }

  count(what: string): void {
    this.happened.set(what, (this.happened.get(what) ?? 0) + 1)
    this.trace?.(`  ! ${what}`)
  }

  /** The power fails: the next process finds what survived. */
  cut(): void {
    this.trace?.('power cut')
    const fate: Fate = (what) => this.count(what)
    this.root.cut(this.random, fate)
    countLinks(this.root)
  }

  /** The fault that strikes this operation, which is used up by it. */
  strike(operation: string, path: string): string | null {
    for (const fault of this.faults) {
      if (!fault.operation.test(operation) || !fault.path.test(path)) continue
      if (fault.skip-- > 0) continue
      this.faults = this.faults.filter((other) => other !== fault)
      this.count(`${operation} ${fault.code}`)
      return fault.code
    }
    return null
  }
}

export class SimProcess {
  readonly fs: FileSystem
  readonly disk: SimDisk
  #queue: Waiting[] = []
  #isAlive = true
  #leftToLive = Number.POSITIVE_INFINITY

  constructor(disk: SimDisk) {
    this.disk = disk
    this.fs = this.#fileSystem()
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  /** Carries out operations until `work` has settled; throws when it waits for something else. */
  async run<T>(work: Promise<T>): Promise<PromiseSettledResult<T>> {
    let settled: PromiseSettledResult<T> | null = null
    work.then(
      (value) => (settled = { status: 'fulfilled', value }),
      (reason) => (settled = { status: 'rejected', reason }),
    )
    for (let round = 0; round < ROUNDS_MAX; round++) {
      // Nothing but promises runs between two operations, so all that can happen has happened after this.
      await new Promise((resolve) => setImmediate(resolve))
      if (settled !== null) return settled
      this.#round()
    }
    throw new Error('the story does not end: something waits that no operation can wake')
  }

  /** It is killed after so many operations from here. */
  liveFor(operations: number): void {
    this.#leftToLive = operations
  }

  /** kill -9, now. */
  kill(): void {
    if (!this.#isAlive) return
    this.disk.trace?.('killed')
    this.#isAlive = false
    for (const waiting of this.#queue.splice(0)) waiting.die()
  }

  // Some of what waits, in any order.
  #round(): void {
    const { random } = this.disk
    random.shuffle(this.#queue)
    const due = this.#queue.splice(0, random.below(2) === 0 ? this.#queue.length : 1 + random.below(this.#queue.length))
    for (const [i, waiting] of due.entries()) {
      if (waiting.rounds-- > 0) {
        this.#queue.push(waiting)
        continue
      }
      if (this.#leftToLive-- <= 0) {
        this.#queue.push(...due.slice(i))
        this.kill()
        return
      }
      this.disk.operations++
      waiting.execute()
    }
  }

  /** Queues one system call. `partial` is what may have happened of it when the process dies in it. */
  #call<T>(operation: string, path: string, run: () => T, options: { fail?: () => void; partial?: () => void } = {}): Promise<T> {
    const disk = this.disk
    return new Promise((resolve, reject) => {
      if (!this.#isAlive) return reject(new Dead())
      const isSlow = operation.length > 7 && operation.includes('sync') && disk.random.below(20) === 0
      const attempt = (): T => {
        const code = disk.strike(operation, path)
        if (code === null) return run()
        options.fail?.()
        throw systemError(code, operation, path)
      }
      this.#queue.push({
        rounds: isSlow ? disk.random.below(30) : 0,
        execute: () => {
          try {
            const value = attempt()
            disk.trace?.(`${operation} ${path}`)
            resolve(value)
          } catch (error) {
            disk.trace?.(`${operation} ${path}: ${error instanceof Error ? error.message : String(error)}`)
            reject(error)
          }
        },
        die: () => {
          const lot = disk.random.below(3)
          try {
            if (lot === 0) run()
            else if (lot === 1) options.partial?.()
          } catch {
            // It failed, and nobody was left to hear of it.
          }
          reject(new Dead())
        },
      })
    })
  }

  #fileSystem(): FileSystem {
    const disk = this.disk
    return {
      open: (path, mode, permissions = 0o600) => this.#call(`open:${mode}`, path, () => this.#open(path, mode, permissions)),
      rename: (from, to) => this.#call('rename', to, () => this.#rename(from, to)),
      link: (from, to) =>
        this.#call('link', to, () => {
          const node = find(disk.root, from)
          if (node.kind !== 'file') throw systemError('EPERM', 'link', from)
          this.#add(to, node)
        }),
      remove: (path, what) =>
        what === 'tree' ? this.#removeTree(path) : this.#call(`remove:${what}`, path, () => this.#remove(path, what)),
      mkdir: (path, permissions) => this.#call('mkdir', path, () => this.#add(path, new SimFolder(disk.newId(), permissions))),
      list: (path) => this.#call('list', path, () => [...folderAt(disk.root, path).entries.keys()]),
      lstat: (path) => this.#call('lstat', path, () => statOf(find(disk.root, path))),
      realpath: (path) =>
        this.#call('realpath', path, () => {
          find(disk.root, path)
          return path
        }),
      syncDirectory: (path) =>
        this.#call('syncDirectory', path, () => folderAt(disk.root, path).sync(), {
          fail: () => folderAt(disk.root, path).failSync(disk.random),
        }),
      space: (path) => this.#call('space', path, () => ({ freeBytes: disk.isFull ? 0 : 2 ** 40, freeFiles: null })),
    }
  }

  /** Puts a node at a new name. */
  #add(path: string, node: SimNode): void {
    const parent = folderAt(this.disk.root, dirname(path))
    if (parent.entries.has(basename(path))) throw systemError('EEXIST', 'create', path)
    if (this.disk.isFull) throw systemError('ENOSPC', 'create', path)
    parent.set(basename(path), node)
  }

  #open(path: string, mode: OpenMode, permissions: number): OpenFile {
    if (mode === 'create') {
      const file = new SimFile(this.disk.newId(), permissions)
      this.#add(path, file)
      return this.#file(file, path)
    }
    const file = find(this.disk.root, path)
    if (file.kind === 'folder') throw systemError('EISDIR', 'open', path)
    return this.#file(file, path)
  }

  #rename(from: string, to: string): void {
    const node = find(this.disk.root, from)
    const target = folderAt(this.disk.root, dirname(to))
    const found = target.entries.get(basename(to))
    if (found?.kind === 'folder' && node.kind === 'file') throw systemError('EISDIR', 'rename', to)
    if (found?.kind === 'file' && node.kind === 'folder') throw systemError('ENOTDIR', 'rename', to)
    if (found?.kind === 'folder' && found.entries.size > 0) throw systemError('ENOTEMPTY', 'rename', to)
    target.set(basename(to), node)
    folderAt(this.disk.root, dirname(from)).set(basename(from), null)
  }

  #remove(path: string, what: 'file' | 'folder'): void {
    const node = find(this.disk.root, path)
    if (what === 'file' && node.kind === 'folder') throw systemError('EISDIR', 'unlink', path)
    if (what === 'folder' && node.kind === 'file') throw systemError('ENOTDIR', 'rmdir', path)
    if (node.kind === 'folder' && node.entries.size > 0) throw systemError('ENOTEMPTY', 'rmdir', path)
    folderAt(this.disk.root, dirname(path)).set(basename(path), null)
  }

  // Name by name, as the system's own does, so that it can be cut off in the middle.
  async #removeTree(path: string): Promise<void> {
    const names = await this.#call('remove:tree', path, () => {
      const node = lookUp(this.disk.root, path)
      return node === null ? null : node.kind === 'file' ? [] : [...node.entries.keys()]
    })
    if (names === null) return
    for (const name of names) await this.#removeTree(`${path}/${name}`)
    await this.#call('remove:tree', path, () => {
      if (lookUp(this.disk.root, path) !== null) folderAt(this.disk.root, dirname(path)).set(basename(path), null)
    })
  }

  #file(file: SimFile, path: string): OpenFile {
    const disk = this.disk
    const some = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, disk.random.below(bytes.length + 1))
    return {
      stat: () => this.#call('stat', path, () => statOf(file)),
      read: (target, position) =>
        this.#call('read', path, () => {
          const found = file.bytes.subarray(position, position + target.length)
          target.set(found)
          return found.length
        }),
      write: (bytes, position) =>
        this.#call(
          'write',
          path,
          () => {
            if (!disk.isFull) return file.write(position, bytes)
            file.write(position, some(bytes))
            throw systemError('ENOSPC', 'write', path)
          },
          { fail: () => file.write(position, some(bytes)), partial: () => file.write(position, some(bytes)) },
        ),
      truncate: (sizeBytes) => this.#call('truncate', path, () => file.truncate(sizeBytes)),
      setModified: () => this.#call('setModified', path, () => {}),
      datasync: () => {
        if (file.hasFailedSync) disk.violations.push(`the sync of ${path} had failed, and was called again`)
        return this.#call('datasync', path, () => file.sync(), { fail: () => file.failSync(disk.random) })
      },
      close: () => this.#call('close', path, () => {}),
    }
  }
}

/** Without a stack: most are answers that the code expects. */
function systemError(code: string, operation: string, path: string): Error {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const error = Object.assign(new Error(`${code}: ${operation} ${path}`), { code })
  Error.stackTraceLimit = stackTraceLimit
  return error
}

const parts = new Map<string, string[]>()

// The same few hundred paths are looked up again and again.
function partsOf(path: string): string[] {
  let found = parts.get(path)
  if (found === undefined) {
    if (parts.size > 5_000) parts.clear()
    found = path.split('/').filter((name) => name !== '')
    parts.set(path, found)
  }
  return found
}

function lookUp(root: SimFolder, path: string): SimNode | null {
  let node: SimNode = root
  for (const name of partsOf(path)) {
    if (node.kind !== 'folder') throw systemError('ENOTDIR', 'look-up', path)
    const next: SimNode | undefined = node.entries.get(name)
    if (next === undefined) return null
    node = next
  }
  return node
}

function find(root: SimFolder, path: string): SimNode {
  const node = lookUp(root, path)
  if (node === null) throw systemError('ENOENT', 'look-up', path)
  return node
}

function folderAt(root: SimFolder, path: string): SimFolder {
  const node = find(root, path)
  if (node.kind !== 'folder') throw systemError('ENOTDIR', 'look-up', path)
  return node
}

const statOf = (node: SimNode): FileStat => ({
  kind: node.kind,
  sizeBytes: node.kind === 'file' ? node.bytes.length : 0,
  mode: node.mode,
  uid: process.geteuid?.() ?? 0,
  identity: `1:${node.id}`,
  links: node.kind === 'file' ? node.links : 1,
  allocatedBytes: node.kind === 'file' ? node.bytes.length : 0,
})
