/** The scope secrets of shares of our own: asked for by `share`, and again from their records. */
import { lineageScope, nodeScope, publicScope } from '../../protocol/keys.ts'
import type { Secret } from '../../protocol/secret.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { ShareRecord } from '../storage/records.ts'

/** The secret that the keys of a share were derived under; null for a share of others. */
export async function scopeSecret(nodeSecret: Uint8Array, scope: ShareRecord['scope']): Promise<Secret | null> {
  switch (scope?.kind) {
    case 'public':
      return await publicScope(nodePrimitives)
    case 'node':
      return await nodeScope(nodePrimitives, nodeSecret)
    case 'random':
      return scope.secret
    case 'lineage':
      return scope.id === null ? null : await lineageScope(nodePrimitives, nodeSecret, scope.id)
    case undefined:
      return null
  }
}
