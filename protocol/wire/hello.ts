/**
 * The proof in HELLO and WELCOME: each side shows that it knows the share's root without saying it.
 *
 * proof = HMAC-SHA256(root multihash, "shoal/1/" || "hello/req" or "hello/res" || sender's peer id || receiver's peer id). Peer ids are
 * authenticated by the channel below, so a proof is worth nothing to anybody else, and one direction's proof nothing in the other.
 */
import { assert } from '../errors.ts'
import type { Primitives } from '../primitives.ts'

const MULTIHASH_BYTES = 34
const LABELS = { request: 'shoal/1/hello/req', response: 'shoal/1/hello/res' } as const

/** 32 bytes. `sender` and `receiver` are peer-id multihashes; all arguments are borrowed. */
export async function helloProof(
  primitives: Primitives,
  rootMultihash: Uint8Array,
  role: keyof typeof LABELS,
  sender: Uint8Array,
  receiver: Uint8Array,
): Promise<Uint8Array> {
  assert(rootMultihash.byteLength === MULTIHASH_BYTES, `root multihash of ${rootMultihash.byteLength} bytes`)
  const label = Uint8Array.from(LABELS[role], (character) => character.charCodeAt(0)) // ASCII
  const said = new Uint8Array(label.byteLength + sender.byteLength + receiver.byteLength)
  said.set(label)
  said.set(sender, label.byteLength)
  said.set(receiver, label.byteLength + sender.byteLength)
  return await primitives.hmac(rootMultihash, said)
}

/** Whether two proofs are equal, in a time that does not depend on where they differ. */
export function proofsEqual(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.byteLength ^ b.byteLength
  for (let i = 0; i < a.byteLength; i++) difference |= a[i]! ^ (b[i] ?? 0)
  return difference === 0
}

/** A key that no share has: an unknown share is checked against it, so that refusing takes the same work as a wrong proof. */
export const NO_SHARE_MULTIHASH: Uint8Array = Uint8Array.from({ length: MULTIHASH_BYTES }, (_, i) => [0x12, 0x20][i] ?? 0)

/**
 * Of two streams for the same share between the same peers, the one that the smaller peer id opened stays. Both sides come to the same
 * answer without a word. `direction` is that of the stream in question, seen from us.
 */
export function staysOfTwo(self: Uint8Array, remote: Uint8Array, direction: 'inbound' | 'outbound'): boolean {
  return isSmaller(self, remote) === (direction === 'outbound')
}

function isSmaller(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < Math.min(a.byteLength, b.byteLength); i++) {
    if (a[i] !== b[i]) return a[i]! < b[i]!
  }
  return a.byteLength < b.byteLength
}
