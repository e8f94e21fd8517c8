/**
 * libp2p's key-value store over the records file: interface-datastore on one side, requests to the records worker on the other.
 *
 * Queries read page by page, and batches are sent in bounded parts, each of them one transaction.
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

/** A Datastore whose changes are on disk when they resolve. */
export class RecordsDatastore extends BaseDatastore {
  readonly #port: RecordsPort

  constructor(port: RecordsPort) {
    super()
    this.#port = port
  }

  override async put(key: Key, value: Uint8Array, options?: Options): Promise<Key> {
    await this.#change([{ key: key.toString(), value: copy(value) }], options)
    return key
  }

  override async get(key: Key, options?: Options): Promise<Uint8Array> {
    const value = await this.#port.ask<Uint8Array | null>({ op: 'getKey', key: key.toString() }, [], options?.signal)
    if (value === null) throw new NotFoundError(`no value for ${key.toString()}`)
    return value
  }

  override async has(key: Key, options?: Options): Promise<boolean> {
    return (await this.#port.ask<Uint8Array | null>({ op: 'getKey', key: key.toString() }, [], options?.signal)) !== null
  }

  override async delete(key: Key, options?: Options): Promise<void> {
    await this.#change([{ key: key.toString(), value: null }], options)
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
          await this.#change(due.slice(at, at + STORAGE.recordBatchMax), options)
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

  async #change(changes: KeyChange[], options?: Options): Promise<void> {
    const transfer = changes.flatMap(({ value }) => (value === null ? [] : [value.buffer as ArrayBuffer]))
    await this.#port.ask<null>({ op: 'changeKeys', changes }, transfer, options?.signal)
  }
}

// A view may be a few bytes of a large buffer, and all of that would be cloned with it.
const copy = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)
