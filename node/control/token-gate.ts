/**
 * Judges the token of a request over HTTP: compared in constant time, and whoever guesses quickly is told to wait.
 *
 * The right token passes always: with 2^256 of them nobody finds it by trying, and a lock-out would let every user of this machine shut
 * the owner out.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { HTTP } from '../../protocol/limits.ts'
import type { Secret } from '../../protocol/secret.ts'

/** 'slow': wrong, and one of too many within a second. */
export type Verdict = 'right' | 'wrong' | 'slow'

export class TokenGate {
  readonly #digest: Uint8Array
  /** Times of the latest failures, oldest first. */
  readonly #failedMs: number[] = []

  readonly #onSlow: () => void

  /** `token` as text in ASCII, as its file holds it; `onSlow` is called with each verdict 'slow'. */
  constructor(token: Secret, onSlow: () => void = () => {}) {
    this.#digest = digestOf(token.reveal())
    this.#onSlow = onSlow
  }

  /** Judges the value of an Authorization header. `nowMs` is monotonic. */
  judge(header: string | null, nowMs: number): Verdict {
    const [, given = ''] = /^Bearer (\S{1,256})$/i.exec(header ?? '') ?? []
    // Digests are of one length, and tell nothing of where two tokens begin to differ.
    if (timingSafeEqual(digestOf(new TextEncoder().encode(given)), this.#digest)) return 'right'
    while (this.#failedMs[0] !== undefined && this.#failedMs[0] <= nowMs - 1_000) this.#failedMs.shift()
    if (this.#failedMs.length >= HTTP.failuresPerSecondMax) {
      this.#onSlow()
      return 'slow'
    }
    this.#failedMs.push(nowMs)
    return 'wrong'
  }
}

const digestOf = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest()
