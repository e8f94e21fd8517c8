/** Small steps between DHT queries and their callers: many sources as one, bytes as text. */
import { peerIdFromMultihash } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { decode as decodeMultihash } from 'multiformats/hashes/digest'

/** The values of all sources as they come, at most `countMax`. A source waits until its last value was taken. Leaving ends them all. */
export async function* mergeAll<T>(sources: AsyncGenerator<T>[], countMax: number): AsyncGenerator<T> {
  const pending = new Map<AsyncGenerator<T>, Promise<{ source: AsyncGenerator<T>; step: IteratorResult<T> }>>()
  const advance = (source: AsyncGenerator<T>): void => {
    const next = source.next().then((step) => ({ source, step }))
    next.catch(() => {}) // seen again where it is awaited, unless the reader has left
    pending.set(source, next)
  }
  try {
    for (const source of sources) advance(source)
    for (let count = 0; pending.size > 0 && count < countMax; ) {
      const { source, step } = await Promise.race(pending.values())
      if (step.done === true) {
        pending.delete(source)
        continue
      }
      advance(source)
      count++
      yield step.value
    }
  } finally {
    // Not awaited: a source may stand in a wait that only the caller's signal ends.
    for (const source of pending.keys()) source.return(undefined).catch(() => {})
  }
}

/** A peer id as text, or null when the bytes are none. */
export function peerIdText(multihash: Uint8Array): string | null {
  try {
    return peerIdFromMultihash(decodeMultihash(multihash)).toString()
  } catch {
    return null // malformed input of a stranger
  }
}

/** Addresses as text; those that do not parse are left out. */
export function addressTexts(addresses: readonly Uint8Array[]): string[] {
  return addresses.flatMap((bytes) => {
    try {
      return [multiaddr(bytes).toString()]
    } catch {
      return [] // malformed input of a stranger
    }
  })
}
