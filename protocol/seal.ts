/**
 * Sealing and opening blocks.
 *
 * The one key rule: the key of a block is an HMAC over exactly the bytes that are sealed, padding included. Different bytes never meet under
 * one key, which is what makes the fixed nonce safe; so the functions here that take a key for sealing, sealAgain and sealRootAgain,
 * give nothing out but the very block that exists already.
 */
import { concat, equalBytes, equalConstantTime } from './bytes.ts'
import { FormatError } from './errors.ts'
import { type Kind, kindKey, kindLabel, label } from './keys.ts'
import { FORMAT } from './limits.ts'
import type { MaybePromise, Primitives } from './primitives.ts'
import { Secret } from './secret.ts'

/** What is known of a data, key, path or pad block without having it. */
export interface BlockName {
  /** 32 bytes: opens the block. */
  key: Uint8Array
  /** SHA-256 of the block, 32 bytes. */
  digest: Uint8Array
}

/** A sealed data, key, path or pad block. */
export interface SealedBlock extends BlockName {
  block: Uint8Array
}

/** Seals under one scope. */
export interface BlockSealer {
  /** `plaintext` is taken. */
  seal(kind: Kind, plaintext: Uint8Array): Promise<SealedBlock>
  /** What `seal` would give, without the block. `plaintext` is taken. */
  name(kind: Kind, plaintext: Uint8Array): Promise<BlockName>
  /** Seals a root: its key is the read key of the share. `rootPlain` is taken. */
  sealRoot(rootPlain: Uint8Array): Promise<{ readKey: Secret; digest: Uint8Array; block: Uint8Array }>
}

/** Opens blocks whose bytes were already checked against their CID. Both methods borrow their arguments. */
export interface BlockOpener {
  /** Throws FormatError B2 when the tag is wrong. */
  open(kind: Kind, key: Uint8Array, block: Uint8Array): Promise<Uint8Array>
  /** Throws FormatError B1 when the read key is not the one that the block commits to, B2 when the tag is wrong. */
  openRoot(readKey: Secret, block: Uint8Array): Promise<Uint8Array>
}

/** Bytes of the commitment at the start of a root block. */
export const COMMIT_BYTES = 32
/** What a root block adds to its CBOR: commitment, length, tag. */
export const ROOT_OVERHEAD_BYTES = COMMIT_BYTES + 4 + FORMAT.tagBytes

const NONCE = new Uint8Array(12)

/** SHA-256 of a block: what its CID holds. */
export function hashBlock(p: Primitives, bytes: Uint8Array): MaybePromise<Uint8Array> {
  return p.sha256(bytes)
}

/** A sealer for one scope. Kind keys are derived on first use and kept. */
export function createSealer(p: Primitives, scope: Secret): BlockSealer {
  const kindKeys = new Map<Kind, Promise<Uint8Array>>()
  const keyFor = async (kind: Kind, plaintext: Uint8Array): Promise<Uint8Array> => {
    let pending = kindKeys.get(kind)
    if (pending === undefined) {
      pending = kindKey(p, scope, kind)
      kindKeys.set(kind, pending)
    }
    return await p.hmac(await pending, plaintext)
  }
  return {
    async seal(kind, plaintext) {
      const key = await keyFor(kind, plaintext)
      const block = await p.gcmSeal(key, NONCE, kindLabel(kind), plaintext)
      return { key, digest: await hashBlock(p, block), block }
    },
    async name(kind, plaintext) {
      const key = await keyFor(kind, plaintext)
      return { key, digest: await p.gcmSealDigest(key, NONCE, kindLabel(kind), plaintext) }
    },
    async sealRoot(rootPlain) {
      const readKey = await keyFor('root', rootPlain)
      const block = await sealRootPlain(p, readKey, rootPlain)
      return { readKey: new Secret(readKey), digest: await hashBlock(p, block), block }
    },
  }
}

/** A block that is to be made once more, from bytes that may have changed. */
export interface KnownBlock {
  kind: Kind
  /** Null for a pad, whose key nobody keeps: whoever knows the scope derives it. */
  key: Uint8Array | null
  /** SHA-256 of the sealed block. */
  digest: Uint8Array
}

/** Seals `plaintext` (borrowed) if that gives exactly the known block, else null: other bytes are noticed by the digest, and nothing of what
 *  was made of them is released. For a pad the key is derived under `derivingKey`; null where that is not known. */
export async function sealAgain(
  p: Primitives,
  known: KnownBlock,
  derivingKey: Uint8Array | null,
  plaintext: Uint8Array,
): Promise<Uint8Array | null> {
  const key = known.key ?? (derivingKey === null ? null : await p.hmac(derivingKey, plaintext))
  if (key === null) return null
  const block = await p.gcmSeal(key, NONCE, kindLabel(known.kind), plaintext)
  return equalBytes(await hashBlock(p, block), known.digest) ? block : null
}

/** Seals the plaintext of a root block (borrowed) that exists already; null when that gives any other block. */
export async function sealRootAgain(p: Primitives, readKey: Secret, digest: Uint8Array, rootPlain: Uint8Array): Promise<Uint8Array | null> {
  const block = await sealRootPlain(p, readKey.reveal(), rootPlain)
  return equalBytes(await hashBlock(p, block), digest) ? block : null
}

async function sealRootPlain(p: Primitives, readKey: Uint8Array, rootPlain: Uint8Array): Promise<Uint8Array> {
  const { encryptionKey, commit } = await rootKeys(p, readKey)
  return concat(commit, await p.gcmSeal(encryptionKey, NONCE, kindLabel('root'), rootPlain))
}

/** An opener; it holds no state. */
export function createOpener(p: Primitives): BlockOpener {
  return {
    async open(kind, key, block) {
      const plaintext = await p.gcmOpen(key, NONCE, kindLabel(kind), block)
      if (plaintext === null) throw new FormatError('B2', `a ${kind} block of ${block.length} bytes does not open with its key`)
      return plaintext
    },
    async openRoot(readKey, block) {
      const { encryptionKey, commit } = await rootKeys(p, readKey.reveal())
      if (!equalConstantTime(commit, block.subarray(0, COMMIT_BYTES))) {
        throw new FormatError('B1', `the root block of ${block.length} bytes does not commit to this key`)
      }
      const plaintext = await p.gcmOpen(encryptionKey, NONCE, kindLabel('root'), block.subarray(COMMIT_BYTES))
      if (plaintext === null) throw new FormatError('B2', `the root block of ${block.length} bytes does not open with its key`)
      return plaintext
    },
  }
}

async function rootKeys(p: Primitives, readKey: Uint8Array): Promise<{ encryptionKey: Uint8Array; commit: Uint8Array }> {
  const material = await p.hkdf(readKey, label('root'), 64)
  return { encryptionKey: material.slice(0, 32), commit: material.slice(32) }
}
