/**
 * A small pool of worker threads for block-sized cryptography: hash, seal, open. The event loop never hashes a megabyte.
 *
 * Arrays given to `*Taken` methods and to `seal` move to the worker and are unusable afterwards; what they resolve to moves back.
 * The queue is bounded by the callers (credit on the wire, `concurrency` of the writer), and asserted here.
 *
 * When a worker dies, what it was given is done once more, from a copy, in a worker apart and one task at a time: so a task that ends that
 * one too is known to be the one at fault, and fails alone.
 */
import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { assert, FORMAT_CODES, type FormatCode, FormatError } from '../../protocol/errors.ts'
import type { Kind } from '../../protocol/keys.ts'
import { FORMAT, WORKERS } from '../../protocol/limits.ts'
import {
  type BlockName,
  type BlockOpener,
  type BlockSealer,
  createOpener,
  createSealer,
  type KnownBlock,
  type SealedBlock,
} from '../../protocol/seal.ts'
import type { Secret } from '../../protocol/secret.ts'
import { BlockBuffers } from '../block-buffers.ts'
import { nodePrimitives } from './primitives.ts'

export type Task =
  | { op: 'scope'; scopeId: number; secret: Uint8Array }
  | { op: 'forget'; scopeId: number }
  | { op: 'hash'; bytes: Uint8Array }
  // `spare` is memory of the size of the answer, for the worker to put it into.
  | { op: 'seal'; scopeId: number; kind: Kind; plaintext: Uint8Array; spare: Uint8Array | null }
  | { op: 'name'; scopeId: number; kind: Kind; plaintext: Uint8Array }
  | { op: 'openChecked'; kind: Kind; key: Uint8Array; digest: Uint8Array; block: Uint8Array; spare: Uint8Array | null }
  | { op: 'reseal'; known: KnownBlock; derivingKey: Uint8Array | null; plaintext: Uint8Array; spare: Uint8Array | null }
  | { op: 'open'; kind: Kind; key: Uint8Array; block: Uint8Array; spare: Uint8Array | null }

export type Answer = { id: number; answer: unknown } | { id: number; error: { name: string; code: string | null; message: string } }

interface Waiting {
  task: Task
  /** What the worker has the memory of; null for a task without bytes. */
  copy: Uint8Array | null
  resolve(answer: unknown): void
  reject(error: Error): void
}

interface Member {
  worker: Worker
  waiting: Map<number, Waiting>
}

/** The event loop has a processor to itself as long as there are two: most work in here comes through it. */
const WORKERS_USUAL = Math.max(1, Math.min(WORKERS.threadsMax, availableParallelism() - 1))
/** A worker that has so many tasks is behind: while files are sealed, which hardly needs the event loop, one more thread helps it. */
const TASKS_BEHIND = 2

export class CryptoPool {
  /** Block-sized memory of the main thread: give blocks and pieces back to it when they are done with. */
  readonly buffers = new BlockBuffers()
  readonly #members: Member[] = []
  readonly #sealingWorkers: number
  /** Beyond the usual ones, as long as something is being sealed. */
  #extra: Member[] = []
  /** Of these, those that end with their last task. */
  readonly #leaving = new Set<Member>()
  readonly #scopes = new Map<number, Secret>()
  /** Tasks whose worker died, and the worker that they are tried in. Bounded by what the members were given. */
  readonly #suspects: Waiting[] = []
  #ward: Member | null = null
  #isTrying = false
  #nextId = 0
  #nextScope = 0
  #isClosed = false

  /** So many threads, and `sealingWorkers` in all while files are sealed. */
  constructor(workers: number = WORKERS_USUAL, sealingWorkers: number = Math.min(WORKERS.threadsMax, availableParallelism())) {
    this.#sealingWorkers = sealingWorkers
    for (let i = 0; i < workers; i++) this.#members.push(this.#spawn())
  }

  /** Threads that take tasks now. */
  get workerCount(): number {
    return this.#members.length + this.#extra.length
  }

  /** SHA-256 of `bytes`, which is taken and comes back as `bytes` of the answer. */
  async hashTaken(bytes: Uint8Array): Promise<{ digest: Uint8Array; bytes: Uint8Array }> {
    return (await this.#run({ op: 'hash', bytes }, [bytes])) as { digest: Uint8Array; bytes: Uint8Array } // the worker's answer to 'hash'
  }

  /** Opens a sealed block, which is taken and comes back as `block` of the answer. FormatError B2 when its tag is wrong. */
  async openTaken(kind: Kind, key: Uint8Array, block: Uint8Array): Promise<{ piece: Uint8Array; block: Uint8Array }> {
    const spare = this.buffers.take(Math.max(0, block.byteLength - FORMAT.tagBytes))
    return (await this.#run({ op: 'open', kind, key, block, spare }, [block, spare])) as { piece: Uint8Array; block: Uint8Array } // the worker's answer to 'open'
  }

  /** Hashes a block (taken, and given back as `bytes`), and opens it only where it is the one that `digest` names. `opened` is the piece,
   *  FormatError B2 when the tag is wrong, null for another block. */
  async openChecked(
    kind: Kind,
    key: Uint8Array,
    digest: Uint8Array,
    block: Uint8Array,
  ): Promise<{ bytes: Uint8Array; opened: Uint8Array | FormatError | null; isRight: boolean }> {
    const spare = this.buffers.take(Math.max(0, block.byteLength - FORMAT.tagBytes))
    const answer = await this.#run({ op: 'openChecked', kind, key, digest, block, spare }, [block, spare])
    // The worker's answer to 'openChecked'.
    const { bytes, piece, damage, isRight } = answer as {
      bytes: Uint8Array
      piece: Uint8Array | null
      damage: string | null
      isRight: boolean
    }
    return { bytes, opened: damage === null ? piece : new FormatError('B2', damage), isRight }
  }

  /** Makes a known block once more from `piece`, which is taken and comes back; null when it is not what the block was made of. */
  async resealTaken(
    known: KnownBlock,
    derivingKey: Uint8Array | null,
    piece: Uint8Array,
  ): Promise<{ block: Uint8Array | null; piece: Uint8Array }> {
    const spare = this.buffers.take(piece.byteLength + FORMAT.tagBytes)
    const answer = await this.#run({ op: 'reseal', known, derivingKey, plaintext: piece, spare }, [piece, spare])
    return answer as { block: Uint8Array | null; piece: Uint8Array } // the worker's answer to 'reseal'
  }

  /** A BlockOpener over the pool; it borrows its blocks, so each is copied once on its way to the worker. */
  readonly opener: BlockOpener = {
    open: async (kind, key, block) => (await this.openTaken(kind, key, block.slice())).piece,
    openRoot: (readKey, block) => createOpener(nodePrimitives).openRoot(readKey, block),
  }

  /** Runs `job` with a sealer for `scope`, known to every worker until the job ends. Root blocks are sealed here: one a share. */
  async withSealer<T>(scope: Secret, job: (sealer: BlockSealer) => Promise<T>): Promise<T> {
    const scopeId = this.#nextScope++
    this.#scopes.set(scopeId, scope)
    const local = createSealer(nodePrimitives, scope)
    try {
      await Promise.all(this.#everyone.map((member) => this.#post(member, { op: 'scope', scopeId, secret: scope.reveal() }, [])))
      return await job({
        seal: (kind, plaintext) => this.#seal(scopeId, kind, plaintext),
        name: (kind, plaintext) => this.#name(scopeId, kind, plaintext),
        sealRoot: (rootPlain) => local.sealRoot(rootPlain),
      })
    } finally {
      this.#scopes.delete(scopeId)
      // A worker that crashes now forgets by itself; the job is done all the same.
      await Promise.allSettled(this.#everyone.map((member) => this.#post(member, { op: 'forget', scopeId }, [])))
      if (this.#scopes.size === 0) this.#dismiss()
    }
  }

  async #seal(scopeId: number, kind: Kind, plaintext: Uint8Array): Promise<SealedBlock> {
    this.#helpIfBehind()
    const spare = this.buffers.take(plaintext.byteLength + FORMAT.tagBytes)
    const answer = await this.#run({ op: 'seal', scopeId, kind, plaintext, spare }, [plaintext, spare])
    const { plaintext: done, ...sealed } = answer as SealedBlock & { plaintext: Uint8Array } // the worker's answer to 'seal'
    this.buffers.give(done)
    return sealed
  }

  async #name(scopeId: number, kind: Kind, plaintext: Uint8Array): Promise<BlockName> {
    this.#helpIfBehind()
    const answer = await this.#run({ op: 'name', scopeId, kind, plaintext }, [plaintext])
    const { plaintext: done, ...named } = answer as BlockName & { plaintext: Uint8Array } // the worker's answer to 'name'
    this.buffers.give(done)
    return named
  }

  #helpIfBehind(): void {
    const isBehind = [...this.#members, ...this.#extra].every(({ waiting }) => waiting.size >= TASKS_BEHIND)
    if (isBehind && this.workerCount < this.#sealingWorkers) this.#extra.push(this.#spawnWithScopes())
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const closed = new Error('the crypto pool was closed')
    const members = this.#everyone
    for (const { waiting } of members) {
      for (const task of waiting.values()) task.reject(closed)
      waiting.clear()
    }
    for (const task of this.#suspects.splice(0)) task.reject(closed)
    await Promise.all(members.map((member) => member.worker.terminate()))
  }

  get #everyone(): Member[] {
    return [...this.#members, ...this.#extra, ...this.#leaving, ...(this.#ward === null ? [] : [this.#ward])]
  }

  /** Nothing is sealed any more: the extra threads end, with their last task. */
  #dismiss(): void {
    for (const member of this.#extra) {
      this.#leaving.add(member)
      this.#endIfIdle(member)
    }
    this.#extra = []
  }

  #endIfIdle(member: Member): void {
    if (member.waiting.size > 0 || !this.#leaving.delete(member)) return
    void member.worker.terminate()
  }

  #run(task: Task, taken: Uint8Array[]): Promise<unknown> {
    let best = this.#members[0]
    for (const member of [...this.#members, ...this.#extra])
      if (best === undefined || member.waiting.size < best.waiting.size) best = member
    if (best === undefined) return Promise.reject(new Error('the crypto pool has no workers'))
    return this.#post(best, task, taken)
  }

  async #post(member: Member, task: Task, taken: Uint8Array[]): Promise<unknown> {
    if (this.#isClosed) throw new Error('the crypto pool is closed')
    assert(member.waiting.size < WORKERS.tasksMax, `at most ${WORKERS.tasksMax} tasks wait for one worker`)
    return await new Promise((resolve, reject) => {
      const bytes = bytesOf(task)
      const copy = bytes === null ? null : this.buffers.take(bytes.byteLength)
      if (bytes !== null) copy?.set(bytes)
      this.#send(member, { task, copy, resolve, reject }, task, taken)
    })
  }

  #send(member: Member, waiting: Waiting, task: Task, taken: Uint8Array[]): void {
    const id = this.#nextId++
    const transfer = taken.flatMap((array) =>
      array.buffer instanceof ArrayBuffer && array.byteLength === array.buffer.byteLength && array.byteLength > 0 ? [array.buffer] : [],
    )
    member.worker.postMessage({ id, task }, transfer) // throws when an array was taken before
    member.waiting.set(id, waiting)
  }

  #spawn(): Member {
    const worker = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url))
    const member: Member = { worker, waiting: new Map() }
    worker.on('message', (message: Answer) => {
      const waiting = member.waiting.get(message.id)
      member.waiting.delete(message.id)
      if (waiting?.copy) this.buffers.give(waiting.copy)
      if ('error' in message) waiting?.reject(revive(message.error))
      else waiting?.resolve(message.answer)
      this.#endIfIdle(member)
    })
    worker.on('error', (error) => this.#replace(member, error))
    worker.unref()
    return member
  }

  /** A crashed worker: what it was doing is tried once more, the next task goes to a fresh one that knows the same scopes. */
  #replace(member: Member, error: Error): void {
    const lost = [...member.waiting.values()]
    member.waiting.clear()
    for (const waiting of lost) {
      if (waiting.task.op === 'scope' || waiting.task.op === 'forget')
        waiting.resolve(null) // whoever comes in its place is told
      else if (member !== this.#ward) this.#suspects.push(waiting)
      else waiting.reject(new Error(`two crypto workers ended over one task (${waiting.task.op})`, { cause: error }))
    }
    if (this.#isClosed) return
    if (member === this.#ward) this.#ward = null
    else if (this.#extra.includes(member)) this.#extra = this.#extra.filter((other) => other !== member)
    else if (!this.#leaving.delete(member)) this.#members[this.#members.indexOf(member)] = this.#spawnWithScopes()
    void this.#tryAgain()
  }

  #spawnWithScopes(): Member {
    const fresh = this.#spawn()
    for (const [scopeId, secret] of this.#scopes) this.#post(fresh, { op: 'scope', scopeId, secret: secret.reveal() }, []).catch(() => {}) // the pool was closed
    return fresh
  }

  /** Does what dead workers were given, one task at a time. Never rejects: each task hears of its own end. */
  async #tryAgain(): Promise<void> {
    if (this.#isTrying) return
    this.#isTrying = true
    for (let next = this.#suspects.shift(); next !== undefined && !this.#isClosed; next = this.#suspects.shift()) {
      const { task, copy, resolve, reject } = next
      this.#ward ??= this.#spawnWithScopes()
      const ward = this.#ward
      await new Promise<void>((ended) => {
        const waiting: Waiting = {
          task,
          copy: null,
          resolve: (answer) => ended(resolve(answer)),
          reject: (error) => ended(reject(error)),
        }
        this.#send(ward, waiting, copy === null ? task : withBytes(task, copy), copy === null ? [] : [copy])
      })
    }
    this.#isTrying = false
    const ward = this.#ward
    this.#ward = null
    await ward?.worker.terminate()
  }
}

/** The bytes that a task is about. */
function bytesOf(task: Task): Uint8Array | null {
  if (task.op === 'hash') return task.bytes
  if (task.op === 'seal' || task.op === 'name' || task.op === 'reseal') return task.plaintext
  return task.op === 'open' || task.op === 'openChecked' ? task.block : null
}

/** The same task with its bytes in other memory; the memory for its answer went with the first worker. */
function withBytes(task: Task, bytes: Uint8Array): Task {
  if (task.op === 'hash') return { ...task, bytes }
  if (task.op === 'name') return { ...task, plaintext: bytes }
  if (task.op === 'seal' || task.op === 'reseal') return { ...task, plaintext: bytes, spare: null }
  return task.op === 'open' || task.op === 'openChecked' ? { ...task, block: bytes, spare: null } : task
}

function revive(error: { name: string; code: string | null; message: string }): Error {
  if (error.name === 'FormatError' && error.code !== null && error.code in FORMAT_CODES)
    return new FormatError(error.code as FormatCode, error.message) // checked on this line
  return new Error(error.message)
}
