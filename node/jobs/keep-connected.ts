/** Dials the entrances of the network whenever the node stands alone. */
import { setTimeout as delay } from 'node:timers/promises'
import { WAITS } from '../../protocol/limits.ts'
import type { Stack } from '../network/stack.ts'

const RECONNECT_MIN_MS = 2_000
const RECONNECT_MAX_MS = 60_000

/** Runs until `signal` is aborted. */
export async function keepConnected(stack: Stack, signal: AbortSignal): Promise<void> {
  for (let waitMs = RECONNECT_MIN_MS; !signal.aborted; waitMs = Math.min(waitMs * 2, RECONNECT_MAX_MS)) {
    if (stack.connections().length > 0) waitMs = RECONNECT_MIN_MS
    else await stack.connectBootstrap(AbortSignal.any([signal, AbortSignal.timeout(WAITS.dialMs)])).catch(() => 0) // tried again below
    await delay(waitMs, undefined, { signal, ref: false }).catch(() => {}) // aborted: the loop ends
  }
}
