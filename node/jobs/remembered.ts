/**
 * Peers that gave us blocks of a share that we keep, remembered across restarts: what was begun goes on though nobody else knows them.
 */
import { type Datastore, Key } from 'interface-datastore'
import { CONTACTS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import type { FoundPeer } from '../network/stack.ts'

const keyOf = (cid: string): Key => new Key(`/shoal/contacts/${cid}`)

export class Remembered {
  readonly #datastore: Datastore
  readonly #log: Log
  /** As they are stored, the one met last at the end; by share, for those looked at. */
  readonly #peers = new Map<string, FoundPeer[]>()

  constructor(datastore: Datastore, log: Log) {
    this.#datastore = datastore
    this.#log = log
  }

  /** Those of one share; damaged records count as none. */
  async of(cid: string): Promise<FoundPeer[]> {
    const known = this.#peers.get(cid)
    if (known !== undefined) return known
    const read = await this.#read(cid)
    const meanwhile = this.#peers.get(cid)
    if (meanwhile !== undefined) return meanwhile
    this.#peers.set(cid, read)
    return read
  }

  /** These are connected and have given us blocks. Writes only what is new. */
  async note(cid: string, met: FoundPeer[]): Promise<void> {
    if (met.length === 0) return
    const known = await this.of(cid)
    const fresh = met.filter(
      ({ peerId, addresses }) => !known.some((one) => one.peerId === peerId && one.addresses.join() === addresses.join()),
    )
    if (fresh.length === 0) return
    const others = known.filter(({ peerId }) => fresh.every((one) => one.peerId !== peerId))
    const all = [...others, ...fresh].slice(-CONTACTS.rememberedMax)
    this.#peers.set(cid, all)
    try {
      await this.#datastore.put(keyOf(cid), new TextEncoder().encode(JSON.stringify(all)))
    } catch (error) {
      this.#log.warn('the peers of a share could not be written', { error }) // they only save time after a restart
    }
  }

  /** The share is kept no more. */
  async forget(cid: string): Promise<void> {
    this.#peers.delete(cid)
    await this.#datastore.delete(keyOf(cid))
  }

  async #read(cid: string): Promise<FoundPeer[]> {
    try {
      if (!(await this.#datastore.has(keyOf(cid)))) return []
      const stored: unknown = JSON.parse(new TextDecoder().decode(await this.#datastore.get(keyOf(cid))))
      return Array.isArray(stored) ? stored.filter(isPeer).slice(-CONTACTS.rememberedMax) : []
    } catch (error) {
      this.#log.warn('the peers of a share are not readable', { error })
      return []
    }
  }
}

const isPeer = (value: unknown): value is FoundPeer =>
  typeof value === 'object' &&
  value !== null &&
  'peerId' in value &&
  typeof value.peerId === 'string' &&
  'addresses' in value &&
  Array.isArray(value.addresses) &&
  value.addresses.length <= CONTACTS.addressesMax &&
  value.addresses.every((address) => typeof address === 'string')
