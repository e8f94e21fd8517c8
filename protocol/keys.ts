/**
 * Labels, scopes and kind keys: where every key of a share comes from.
 *
 * The one key rule lives in seal.ts. A scope secret says which blocks of the same bytes come out equal; readers never need it.
 */
import { concat, utf8 } from './bytes.ts'
import { assert } from './errors.ts'
import type { Primitives } from './primitives.ts'
import { Secret } from './secret.ts'

/** What a sealed block holds. Each kind has a key of its own and names itself in the associated data. */
export type Kind = 'data' | 'keys' | 'path' | 'pad' | 'root'

const PREFIX = 'shoal/1/'

/** The ASCII bytes of "shoal/1/" and `name`: every hash and key of the format begins with one. */
export function label(name: string): Uint8Array {
  return utf8(PREFIX + name)
}

/** The default scope: equal bytes give equal blocks within one lineage (the versions of one path) of one node. */
export async function lineageScope(p: Primitives, nodeSecret: Uint8Array, lineageId: string): Promise<Secret> {
  checkSecret(nodeSecret)
  return new Secret(await p.hkdf(nodeSecret, concat(label('scope/lineage'), Uint8Array.of(0), utf8(lineageId)), 32))
}

/** Equal bytes give equal blocks over all shares of one node: saves space, links these shares to each other. */
export async function nodeScope(p: Primitives, nodeSecret: Uint8Array): Promise<Secret> {
  checkSecret(nodeSecret)
  return new Secret(await p.hkdf(nodeSecret, label('scope/node'), 32))
}

/** Equal files give equal shares for everybody: whoever has the file can tell that you have it. */
export async function publicScope(p: Primitives): Promise<Secret> {
  return new Secret(await p.sha256(label('scope/public')))
}

/** A scope that nothing else shares. `bytes`: 32 from a cryptographic random generator (taken). */
export function randomScope(bytes: Uint8Array): Secret {
  checkSecret(bytes)
  return new Secret(bytes)
}

/** The key under which the keys of one kind are derived, 32 bytes. */
export async function kindKey(p: Primitives, scope: Secret, kind: Kind): Promise<Uint8Array> {
  return await p.hkdf(scope.reveal(), kindLabel(kind), 32)
}

/** The associated data of a block of this kind. */
export function kindLabel(kind: Kind): Uint8Array {
  return label(`kind/${kind}`)
}

function checkSecret(bytes: Uint8Array): void {
  assert(bytes.length === 32, `secret of ${bytes.length} bytes, not 32`)
}
