/**
 * What a node keeps, found again after its records were lost, damaged, or replaced by an old backup.
 *
 * Shares come back by their pins (storage/pin-files.ts), and after a loss also by the roots that lie in the store: nodes of a tree that no
 * other node names. Their keys are gone with the records, so they come back as hosted blind; whoever has the link can `get` them again.
 */
import { DAG_PB, formatCid, parseCid } from '../../protocol/cid.ts'
import { ShareDag } from '../../protocol/dag.ts'
import { decodeNode } from '../../protocol/dag-node.ts'
import { FormatError } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { Log } from '../log.ts'
import type { BlockStore } from '../storage/blocks.ts'
import { DigestSet, digestsIn } from '../storage/digest-set.ts'
import { FileError } from '../storage/file-error.ts'
import type { PinFiles } from '../storage/pin-files.ts'
import type { Records, ShareRecord } from '../storage/records.ts'
import { Slices } from './slices.ts'

/** The setting that keeps `gc` from deleting before somebody has looked. */
export const GC_ASKS = 'gc-asks'

export interface RestoreParts {
  records: Records
  blocks: BlockStore
  pins: PinFiles
  log: Log
  /** The records were damaged or gone. */
  isRebuilt: boolean
}

/** Brings records and pins together before anybody uses them; resolves to how many shares came back. */
export async function restoreShares(parts: RestoreParts, signal: AbortSignal): Promise<number> {
  const { records, blocks, pins, log } = parts
  const known = new Set((await records.listShares()).map(({ cid }) => cid))
  const isRebuilt = parts.isRebuilt || (known.size === 0 && pins.cids.length > 0)
  // Before anything else: whatever happens next, nothing is taken for unneeded that only seems so.
  if (isRebuilt) await records.setSetting(GC_ASKS, '1')
  const pinned = new Set(pins.cids)
  const lost = new Set(pins.cids.filter((cid) => !known.has(cid)))
  if (isRebuilt) for (const cid of await rootsIn(blocks, new Slices(signal))) if (!known.has(cid)) lost.add(cid)
  for (const cid of lost) {
    // Where there are pins at all, a share that has none was only cached: it is not for this node to fetch all of it.
    const isCached = pinned.size > 0 && !pinned.has(cid)
    // Damaged until it was looked through: then nothing that an unreadable tree of it may name is deleted.
    const base = { cid, isCached, keepUntilMs: null, usedOrder: 0, cachedBytes: 0 }
    await records.saveKeeping([{ ...base, isDamaged: !isCached }])
    await records.saveShare(blindRecord(cid))
  }
  const cached = new Set((await records.listKeeping()).filter(({ isCached }) => isCached).map(({ cid }) => cid))
  await pins.add([...known].filter((cid) => !cached.has(cid)))
  if (lost.size > 0)
    log.warn('shares of which there was no record any more are hosted again, without their keys: `shoal get` brings those back', {
      shares: lost.size,
    })
  return lost.size
}

/** Of a share of which nothing is known but its name. */
export const blindRecord = (cid: string): ShareRecord => ({
  cid: parseCid(cid).text,
  role: 'blind',
  readKey: null,
  scope: null,
  label: null,
  files: null,
  sizeBytes: null,
  wireBytes: null,
  blockCount: null,
  state: 'partial',
  inPlace: false,
  addedMs: Date.now(),
  announcedMs: null,
})

/** Content IDs of all nodes in the store that could be the root of a share and that no other node names. */
export async function rootsIn(blocks: BlockStore, slices: Slices): Promise<string[]> {
  const named = new DigestSet()
  const nodes = new DigestSet()
  for (let first = 0; first < 256; first++) {
    for (const digest of digestsIn(blocks.digestsWith(first))) {
      await slices.turn()
      const bytes = (await blocks.sizeOf(digest)) <= FORMAT.nodeBytesMax ? await soundBlock(blocks, digest) : null
      const links = bytes === null ? null : linksOf(bytes)
      if (links === null) continue
      nodes.add(digest)
      for (const link of links) named.add(link)
    }
  }
  const roots: string[] = []
  for (const digest of nodes) {
    if (named.has(digest)) continue
    const cid = formatCid(DAG_PB, digest)
    const bytes = await soundBlock(blocks, digest)
    const isRoot = bytes !== null && (await passes(() => ShareDag.open(nodePrimitives, cid, bytes)))
    if (isRoot) roots.push(cid.text)
    await slices.turn()
  }
  return roots
}

async function soundBlock(blocks: BlockStore, digest: Uint8Array): Promise<Uint8Array | null> {
  try {
    return await blocks.get(digest, NEVER)
  } catch (error) {
    if (error instanceof FileError && error.code === 'CORRUPT') return null
    throw error
  }
}

function linksOf(bytes: Uint8Array): Uint8Array[] | null {
  try {
    return decodeNode(bytes).links.map(({ digest }) => digest)
  } catch (error) {
    if (error instanceof FormatError) return null // a leaf, then
    throw error
  }
}

async function passes(check: () => Promise<unknown>): Promise<boolean> {
  try {
    await check()
    return true
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

const NEVER = new AbortController().signal
