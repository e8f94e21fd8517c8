/**
 * The lines of the crowd: every uplink and every downlink takes one block after another.
 *
 * A block leaves an uplink over the time that this takes there, arrives after the latency, and passes the downlink as soon as that is free;
 * it is there when both are through. So a fast sender is held up by a slow receiver only as far as the receiver's own line is full.
 */
import { BLOCK_BYTES, type Member, OVER, QUEUED, removeFrom, SENDING, type Transfer, type Transfers } from './members.ts'
import type { Tally } from './tally.ts'
import type { Wheel } from './wheel.ts'

/** Kinds of events on the wheel; from 32 on they belong to the forms. */
export const REQUEST = 0
export const CANCEL = 1
export const SENT = 2
export const ARRIVING = 3
export const PROGRESS = 4
export const ARRIVED = 5
export const VERIFIED = 6
export const HAVE = 7
export const GREETING = 8
export const LEFT = 9
export const SWARM_TICK = 10
export const UPLOAD_TICK = 11
export const SUGGEST = 12
export const OTHER = 32

/** A machine hears of a block when so much of it is there. */
export const FIRST_BYTES = BLOCK_BYTES / 16

export class Lines {
  readonly #wheel: Wheel
  readonly #transfers: Transfers
  readonly #tally: Tally

  constructor(wheel: Wheel, transfers: Transfers, tally: Tally) {
    this.#wheel = wheel
    this.#transfers = transfers
    this.#tally = tally
  }

  plan(atMs: number, kind: number, transfer: Transfer): void {
    transfer.uses++
    this.#wheel.add(atMs, kind, transfer.id, 0)
  }

  /** Appends a block to an uplink. */
  enqueue(sender: Member, transfer: Transfer): void {
    transfer.stage = QUEUED
    if (sender.sending === null && sender.line.length === 0) this.#send(sender, transfer)
    else sender.line.push(transfer)
  }

  /** The block has left the uplink; false when it was stopped before. */
  sent(sender: Member, transfer: Transfer): boolean {
    if (transfer.stage !== SENDING) return false
    sender.upFreeMs = transfer.startMs + sender.upBlockMs
    this.#leave(sender, transfer, sender.upFreeMs, BLOCK_BYTES)
    return true
  }

  /** Takes a block off an uplink, waiting or half sent. Gives the bytes that had left. */
  stop(sender: Member, transfer: Transfer): number {
    if (transfer.stage === QUEUED) {
      removeFrom(sender.line, transfer)
      transfer.stage = OVER
      this.#transfers.drop(transfer)
      return 0
    }
    const now = this.#wheel.now
    const share = Math.min(1, Math.max(0, (now - transfer.startMs) / sender.upBlockMs))
    const bytes = Math.floor(share * BLOCK_BYTES)
    const asker = transfer.half.owner
    // What will not come takes no place on the downlink.
    if (transfer.isArriving) asker.downFreeMs = Math.max(now, asker.downFreeMs - (1 - share) * asker.downBlockMs)
    transfer.stoppedMs = now
    sender.upFreeMs = now
    this.#tally.wastedBytes += bytes
    this.#leave(sender, transfer, now, bytes)
    return bytes
  }

  /** The first bytes reach the receiver's line. Gives when the machine may hear of them, or -1 when they do not come. */
  arriving(transfer: Transfer): number {
    const { half } = transfer
    const sender = half.peer
    const asker = half.owner
    const now = this.#wheel.now
    if (asker.isGone || transfer.stoppedMs + half.latencyMs < now) return -1
    transfer.isArriving = true
    const beganMs = transfer.startMs + half.latencyMs
    const takenMs = Math.max(asker.downFreeMs, beganMs)
    asker.downFreeMs = takenMs + asker.downBlockMs
    this.plan(Math.max(beganMs + sender.upBlockMs, asker.downFreeMs), ARRIVED, transfer)
    return takenMs + asker.downBlockMs / 16
  }

  #send(sender: Member, transfer: Transfer): void {
    const now = this.#wheel.now
    // A line that was never idle goes on where it was, not at the next whole millisecond.
    transfer.startMs = now - sender.upFreeMs < 1 ? sender.upFreeMs : now
    transfer.stage = SENDING
    sender.sending = transfer
    this.plan(transfer.startMs + sender.upBlockMs, SENT, transfer)
    this.plan(transfer.startMs + transfer.half.latencyMs + sender.upBlockMs / 16, ARRIVING, transfer)
  }

  #leave(sender: Member, transfer: Transfer, endMs: number, bytes: number): void {
    transfer.stage = OVER
    sender.sending = null
    this.#tally.sent(sender, transfer.startMs, endMs, bytes)
    this.#transfers.drop(transfer)
    const next = sender.isGone ? undefined : sender.line.shift()
    if (next !== undefined) this.#send(sender, next)
  }
}
