/**
 * Fewer window updates: the yamux library sends one for every data frame that comes in, however small, so every HAVE and every request
 * costs a packet back. Here one is sent when half of the window is used, which is the rule of the yamux specification.
 *
 * Touches private fields of the library's streams. A stream that does not have them (another muxer, a test) is left as it is.
 */
import type { Stream } from '@libp2p/interface'

/** What this file uses of the library's insides. */
interface YamuxInsides {
  state: number
  recvWindow: number
  recvWindowCapacity: number
  sendWindowUpdate(): void
}

const ESTABLISHED = 3

/** Lets a stream that is not used elsewhere send window updates only when they are of use. */
export function thinWindowUpdates(stream: Stream): void {
  const inside = stream as unknown as Partial<YamuxInsides>
  const { sendWindowUpdate, recvWindow, recvWindowCapacity, state } = inside
  if (sendWindowUpdate === undefined || ![recvWindow, recvWindowCapacity, state].every(Number.isInteger)) return
  inside.sendWindowUpdate = function (this: YamuxInsides) {
    if (this.state !== ESTABLISHED || this.recvWindowCapacity <= this.recvWindow / 2) sendWindowUpdate.call(this)
  }
}
