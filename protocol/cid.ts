/**
 * The content IDs that Shoal knows: CIDv1, raw or dag-pb, SHA-256 of 32 bytes, in base32. One content has one spelling.
 *
 * Not a general CID library: what such a library would accept beyond this is rejected here.
 */
import { base32 } from 'multiformats/bases/base32'
import { compareBytes, concat, equalBytes } from './bytes.ts'
import { assert, FormatError } from './errors.ts'
import { label } from './keys.ts'
import type { Primitives } from './primitives.ts'

/** The codec of a leaf, and of a share that is one leaf. */
export const RAW = 0x55
/** The codec of an inner node of the tree. */
export const DAG_PB = 0x70

/** The root of a share. */
export interface ShareCid {
  /** 59 characters. */
  text: string
  codec: typeof RAW | typeof DAG_PB
  /** SHA-256, 32 bytes. */
  digest: Uint8Array
}

const PATTERN = /^baf(?:krei|ybei)[a-z2-7]{52}$/

/** Reads a CID strictly. Throws FormatError L1 for whatever `formatCid` would not write. */
export function parseCid(text: string): ShareCid {
  if (!PATTERN.test(text)) throw new FormatError('L1', `content ID of ${text.length} characters is not bafkrei… or bafybei… of 59`)
  const bytes = decodeBase32(text)
  const codec = bytes[1] === RAW ? RAW : DAG_PB
  const cid = formatCid(codec, bytes.slice(4))
  // Covers the head (version, codec, hash, length) and the spare bits of the last character.
  if (cid.text !== text) throw new FormatError('L1', 'content ID is not in its one spelling')
  return cid
}

function decodeBase32(text: string): Uint8Array {
  try {
    return base32.decode(text)
  } catch (cause) {
    // After the pattern, all that the decoder can find is spare bits that are not zero.
    throw new FormatError('L1', 'content ID with spare bits in its last character', { cause })
  }
}

/** The CID of a digest of 32 bytes (kept, not copied). */
export function formatCid(codec: typeof RAW | typeof DAG_PB, digest: Uint8Array): ShareCid {
  assert(digest.length === 32, `digest of ${digest.length} bytes`)
  return { text: base32.encode(cidBytes(codec, digest)), codec, digest }
}

/** The 36 bytes of a CID. */
export function cidBytes(codec: typeof RAW | typeof DAG_PB, digest: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(1, codec, 0x12, 0x20), digest)
}

/** The 34 bytes of its multihash: 0x12 0x20 digest. */
export function multihashOf(cid: ShareCid): Uint8Array {
  return concat(Uint8Array.of(0x12, 0x20), cid.digest)
}

/** The name of a share in the DHT, 32 bytes: whoever sees it learns neither the root nor a way to fetch. */
export async function rendezvousDigest(p: Primitives, cid: ShareCid): Promise<Uint8Array> {
  return await p.sha256(concat(label('dht'), Uint8Array.of(0), multihashOf(cid)))
}

/** Whether two CIDs are the same. */
export function equalCids(a: ShareCid, b: ShareCid): boolean {
  return a.codec === b.codec && equalBytes(a.digest, b.digest)
}

/** The order of two CIDs by digest, for sorted lists. */
export function compareCids(a: ShareCid, b: ShareCid): number {
  return compareBytes(a.digest, b.digest) || a.codec - b.codec
}
