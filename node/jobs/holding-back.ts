/** Who gets no payload, and is asked for none, while the volume of the month is used up: all but exempt peers on the local network. */
import type { Held } from '../budgets/budgets.ts'
import { isLocalNetwork } from '../network/local-network.ts'
import type { PeerLink } from '../network/peer-link.ts'
import type { RateLimiter } from '../network/rate-limiter.ts'
import type { LiveShare } from './live-share.ts'

export class HoldingBack {
  readonly #limiter: RateLimiter
  now: Held = { up: false, down: false }

  constructor(limiter: RateLimiter) {
    this.#limiter = limiter
  }

  /** Whether neither caps nor the volume of the month count what goes to and comes from this peer. */
  readonly isExempt = ({ remote }: PeerLink): boolean => this.#limiter.isLanExempt && isLocalNetwork(remote.address)

  /** Whether there must be no session with this peer, which would be asked for blocks. */
  refuses(live: LiveShare, link: PeerLink): boolean {
    return this.now.down && !live.isComplete && !this.isExempt(link)
  }
}
