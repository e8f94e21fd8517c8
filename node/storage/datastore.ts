/**
 * libp2p's key-value store over the records file: interface-datastore on one side, requests to the records worker on the other.
 *
 * Queries read page by page, and batches are sent in bounded parts, each of them one transaction. What libp2p notes of peers, several
 * times for each connection, is kept in memory and written a little later, all together: losing the last of it costs a dial or two.
 */
import { BaseDatastore } from 'datastore-core'
import { type Batch, Key, type KeyQuery, type Pair, type Query } from 'interface-datastore'
import { NotFoundError } from 'interface-store'
import { STORAGE } from '../../protocol/limits.ts'
import type { KeyChange, RecordRequest } from './records-messages.ts'

/** What the datastore needs of the records worker. */
export interface RecordsPort {
  ask<T>(request: RecordRequest, transfer?: ArrayBuffer[], signal?: AbortSignal): Promise<T>
}

interface Options {
  signal?: AbortSignal
}

const HINTS = '/peers/'

/** A Datastore whose changes are on disk when they resolve, but for the notes on peers: those follow within seconds. */
export class RecordsDatastore extends BaseDatastore {
  readonly #port: RecordsPort
  /** Notes on peers as they are now, null for none; those used last at the end. */
  readonly #hints = new Map<string, Uint8Array | null>()
  /** Names of those that are not on disk yet. */
  readonly #unwritten = new Set<string>()
  #timer: NodeJS.Timeout | undefined

  constructor(port: RecordsPort) {
    super()
    this.#port = port
  }

  override async put(key: Key, value: Uint8Array, options?: Options): Promise<Key> {
    await this.#apply([{ key: key.toString(), value: copy(value) }], options)
    return key
  }

  override async get(key: Key, options?: Options): Promise<Uint8Array> {
    const value = await this.#read(key.toString(), options)
    if (value === null) throw new NotFoundError(`no value for ${key.toString()}`)
    return value
  }

  override async has(key: Key, options?: Options): Promise<boolean> {
    return (await this.#read(key.toString(), options)) !== null
  }

  override async delete(key: Key, options?: Options): Promise<void> {
    await this.#apply([{ key: key.toString(), value: null }], options)
  }

  override batch(): Batch {
    let changes: KeyChange[] = []
    return {
      put: (key, value) => {
        changes.push({ key: key.toString(), value: copy(value) })
      },
      delete: (key) => {
        changes.push({ key: key.toString(), value: null })
      },
      commit: async (options) => {
        const due = changes
        changes = []
        for (let at = 0; at < due.length; at += STORAGE.recordBatchMax) {
          await this.#apply(due.slice(at, at + STORAGE.recordBatchMax), options)
        }
      },
    }
  }

  override async *_all(query: Query, options?: Options): AsyncGenerator<Pair> {
    for await (const { key, value } of this.#pages(query.prefix ?? '', true, options)) {
      if (value !== null) yield { key: new Key(key), value }
    }
  }

  override async *_allKeys(query: KeyQuery, options?: Options): AsyncGenerator<Key> {
    for await (const { key } of this.#pages(query.prefix ?? '', false, options)) yield new Key(key)
  }

  async *#pages(prefix: string, withValues: boolean, options?: Options): AsyncGenerator<KeyChange> {
    await this.flush()
    const limit = STORAGE.recordBatchMax
    for (let after: string | null = null; ; ) {
      const rows: KeyChange[] = await this.#port.ask({ op: 'listKeys', prefix, after, limit, withValues }, [], options?.signal)
      for (const row of rows) {
        yield row
        options?.signal?.throwIfAborted()
      }
      const last = rows.at(-1)
      if (rows.length < limit || last === undefined) return
      after = last.key
    }
  }

  /** Writes what is not on disk yet. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const due = [...this.#unwritten].map((key) => {
      const value = this.#hints.get(key) ?? null
      return { key, value: value === null ? null : copy(value) } // what is sent is gone from here
    })
    this.#unwritten.clear()
    for (let at = 0; at < due.length; at += STORAGE.recordBatchMax) await this.#change(due.slice(at, at + STORAGE.recordBatchMax))
  }

  async #read(key: string, options?: Options): Promise<Uint8Array | null> {
    const known = this.#hints.get(key)
    if (known !== undefined) return known
    const value = await this.#port.ask<Uint8Array | null>({ op: 'getKey', key }, [], options?.signal)
    if (!key.startsWith(HINTS)) return value
    const newer = this.#hints.get(key) // changed while it was read
    if (newer !== undefined) return newer
    this.#note(key, value)
    return value
  }

  async #apply(changes: KeyChange[], options?: Options): Promise<void> {
    options?.signal?.throwIfAborted()
    const others = changes.filter(({ key }) => !key.startsWith(HINTS))
    for (const { key, value } of changes) {
      if (!key.startsWith(HINTS)) continue
      this.#note(key, value)
      this.#unwritten.add(key)
    }
    if (others.length > 0) await this.#change(others, options)
    if (this.#unwritten.size >= STORAGE.recordBatchMax) await this.flush()
    else if (this.#unwritten.size > 0) this.#timer ??= setTimeout(() => this.#flushLater(), STORAGE.hintsWrittenMs).unref()
  }

  #flushLater(): void {
    this.flush().catch(() => {}) // records that cannot be written any more say so where it matters
  }

  #note(key: string, value: Uint8Array | null): void {
    this.#hints.delete(key)
    this.#hints.set(key, value)
    for (const oldest of this.#hints.keys()) {
      if (this.#hints.size <= STORAGE.hintsMax || this.#unwritten.has(oldest)) return
      this.#hints.delete(oldest)
    }
  }

  async #change(changes: KeyChange[], options?: Options): Promise<void> {
    const transfer = changes.flatMap(({ value }) => (value === null ? [] : [value.buffer as ArrayBuffer]))
    await this.#port.ask<null>({ op: 'changeKeys', changes }, transfer, options?.signal)
  }
}

// A view may be a few bytes of a large buffer, and all of that would be cloned with it.
const copy = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)
