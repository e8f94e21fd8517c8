/**
 * Peers that we reached ourselves, remembered across restarts, so that the entrances of a network are not needed twice.
 *
 * At most 256, the ones reached last; written a few seconds after a change and at the end.
 */
import type { Datastore } from 'interface-datastore'
import { Key } from 'interface-datastore'
import { NETWORK } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'

const KEY = new Key('/shoal/known-peers')
const WRITE_AFTER_MS = 5_000

/** Full addresses (with the peer id) by peer. */
export class KnownPeers {
  readonly #datastore: Datastore
  readonly #log: Log
  readonly #addresses = new Map<string, string>()
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  private constructor(datastore: Datastore, log: Log) {
    this.#datastore = datastore
    this.#log = log
  }

  /** Reads what was remembered; damaged records count as none. */
  static async open(datastore: Datastore, log: Log): Promise<KnownPeers> {
    const known = new KnownPeers(datastore, log)
    try {
      if (await datastore.has(KEY)) {
        const stored: unknown = JSON.parse(new TextDecoder().decode(await datastore.get(KEY)))
        const entries = Array.isArray(stored) ? stored.slice(-NETWORK.rememberedPeersMax) : []
        for (const entry of entries) {
          if (Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'string') known.#addresses.set(entry[0], entry[1])
        }
      }
    } catch (cause) {
      log.warn('remembered peers are not readable', { cause })
    }
    return known
  }

  /** A peer that answered at this address. */
  remember(peerId: string, address: string): void {
    this.#addresses.delete(peerId)
    this.#addresses.set(peerId, address)
    if (this.#addresses.size > NETWORK.rememberedPeersMax) this.#addresses.delete(this.#addresses.keys().next().value!)
    if (this.#timer !== undefined || this.#isClosed) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.#write()
    }, WRITE_AFTER_MS)
    this.#timer.unref()
  }

  /** Latest first. */
  list(): { peerId: string; address: string }[] {
    return [...this.#addresses].reverse().map(([peerId, address]) => ({ peerId, address }))
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    await this.#write()
  }

  async #write(): Promise<void> {
    try {
      await this.#datastore.put(KEY, new TextEncoder().encode(JSON.stringify([...this.#addresses])))
    } catch (cause) {
      // The list only saves time at the next start.
      this.#log.warn('remembered peers could not be written', { cause })
    }
  }
}
