/**
 * Who may connect, and where we may connect to: the answers to the questions that the connection layer asks on each dial and arrival.
 *
 * Bans by peer id, kinds of identity, the standing rules and windows of the dial budget, and (arrivals.ts) what comes in and is not upgraded.
 */
import type { ConnectionGater, PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Hit } from '../../protocol/limit-table.ts'
import { SCORE } from '../../protocol/limits.ts'
import { Arrivals } from './arrivals.ts'
import type { DialBudget } from './dial-budget.ts'

export interface GaterRules {
  now: () => number
  groupPrivate: boolean
  /** Refuse every identity that is not Ed25519 (named networks; the public DHT has others). */
  isEd25519Only: boolean
  budget: DialBudget
  hit?: Hit
}

/** Keeps the counts behind the answers; `hooks` is what libp2p takes. */
export class Gater {
  readonly #rules: GaterRules
  readonly #arrivals: Arrivals
  readonly #bannedUntilMs = new Map<string, number>()
  readonly hooks: ConnectionGater

  constructor(rules: GaterRules) {
    this.#rules = rules
    this.#arrivals = new Arrivals(rules)
    this.hooks = {
      denyDialPeer: (peer) => this.#isRefused(peer),
      denyDialMultiaddr: (address) => rules.budget.denies(address),
      denyInboundConnection: (connection) => this.#arrivals.refuses(connection),
      denyInboundEncryptedConnection: (peer) => this.#isRefused(peer),
      denyOutboundEncryptedConnection: (peer) => this.#isRefused(peer),
      denyInboundUpgradedConnection: (_peer, connection) => {
        this.#arrivals.settle(connection)
        return false
      },
      filterMultiaddrForPeer: (_peer, address: Multiaddr) => rules.budget.isUsable(address),
    }
  }

  /** Neither dialled nor let in until then (on the clock of the rules). */
  ban(peerId: string, untilMs: number): void {
    this.#bannedUntilMs.delete(peerId)
    this.#bannedUntilMs.set(peerId, untilMs)
    if (this.#bannedUntilMs.size > SCORE.entriesMax) this.#bannedUntilMs.delete(this.#bannedUntilMs.keys().next().value!)
  }

  isBanned(peerId: string): boolean {
    const untilMs = this.#bannedUntilMs.get(peerId)
    if (untilMs === undefined) return false
    if (untilMs > this.#rules.now()) return true
    this.#bannedUntilMs.delete(peerId)
    return false
  }

  #isRefused(peer: PeerId): boolean {
    return (this.#rules.isEd25519Only && peer.type !== 'Ed25519') || this.isBanned(peer.toString())
  }
}
