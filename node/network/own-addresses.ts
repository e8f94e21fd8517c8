/**
 * Notices when this node listens elsewhere than when it last looked, a restart between included: what was announced names old addresses then.
 */
import type { Libp2p } from '@libp2p/interface'
import type { Datastore } from 'interface-datastore'
import { Key } from 'interface-datastore'
import { NETWORK } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { isPublicAddress } from './addresses.ts'

const KEY = new Key('/shoal/own-addresses')

export class OwnAddresses {
  readonly #parts: { node: Libp2p; datastore: Datastore; log: Log }
  readonly #listeners = new Set<() => void>()
  #timer: NodeJS.Timeout | undefined
  /** Whether any of them was of use from afar when we last looked. */
  #hadFar = false
  #isStopped = false

  constructor(parts: { node: Libp2p; datastore: Datastore; log: Log }) {
    this.#parts = parts
    parts.node.addEventListener('self:peer:update', this.#look)
  }

  /** Calls `listener` after every change; soon, when there was one since the node last ran. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
    this.#timer ??= setTimeout(() => void this.#compare(), 0)
  }

  /** What was announced names an address that is gone: the next one that is of use from afar does not wait. */
  moved(): void {
    this.#hadFar = false
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#parts.node.removeEventListener('self:peer:update', this.#look)
  }

  // Addresses come and go one by one, as when a computer wakes up: they are looked at together.
  readonly #look = (): void => {
    if (this.#listeners.size === 0 || this.#isStopped) return
    // What was announced before is of no use to anybody far away: that does not wait.
    const isFirst = !this.#hadFar && this.#parts.node.getMultiaddrs().some(isPublicAddress)
    if (isFirst) clearTimeout(this.#timer)
    if (isFirst) this.#timer = setTimeout(() => void this.#compare(), NETWORK.firstAddressMs).unref()
    this.#timer ??= setTimeout(() => void this.#compare(), NETWORK.ownAddressesMs).unref()
  }

  async #compare(): Promise<void> {
    this.#timer = undefined
    const { node, datastore, log } = this.#parts
    this.#hadFar = node.getMultiaddrs().some(isPublicAddress)
    const now = node
      .getMultiaddrs()
      .map((address) => address.toString())
      .sort()
      .join(' ')
    try {
      const before = (await datastore.has(KEY)) ? new TextDecoder().decode(await datastore.get(KEY)) : now
      await datastore.put(KEY, new TextEncoder().encode(now))
      if (before === now || this.#isStopped) return
    } catch (cause) {
      log.warn('the addresses of the last run are not known', { cause })
      return
    }
    for (const listener of this.#listeners) listener()
  }
}
