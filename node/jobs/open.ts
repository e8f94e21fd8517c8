/**
 * What get, cat, ls and seed have in common: parse the link, hold the share, look for peers, give up when nobody is there.
 */
import { EXIT, FormatError } from '../../protocol/errors.ts'
import { FIND, FORMAT, READING } from '../../protocol/limits.ts'
import { type Link, parseLink } from '../../protocol/link.ts'
import { ShareReader } from '../../protocol/reader.ts'
import type { Secret } from '../../protocol/secret.ts'
import { JobError, type JobEvent } from '../control/api.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import { parsePeerAddress } from '../network/peer-address.ts'
import type { FoundPeer } from '../network/stack.ts'
import { checkFree } from './disk-room.ts'
import type { JobEnvironment } from './environment.ts'
import { dropBlocks, removeShare } from './gc.ts'
import type { Holding } from './holding.ts'
import type { LiveShare } from './live-share.ts'

export interface OpenRequest {
  link: string
  wait: boolean
  peers: string[]
}

export interface OpenShare {
  link: Link
  holding: Holding
  live: LiveShare
  /** Aborts with the caller's signal, when the share turns out damaged, and when no seeder is online. */
  signal: AbortSignal
}

export interface ReadableShare extends OpenShare {
  reader: ShareReader
}

/** Parses a link that must carry a read key. */
export async function parseReadable(text: string): Promise<Link & { readKey: Secret }> {
  const link = await parseLink(nodePrimitives, text)
  if (link.readKey === null) {
    throw new JobError(
      'NO_KEY',
      'this is a seed link: it carries no key to read with; host it with `shoal seed`, or ask the sender for the share link',
      { exitCode: EXIT.usage },
    )
  }
  return { ...link, readKey: link.readKey }
}

/** Runs `job` on a share that is held, sought and watched until the job ends. */
export async function withShare<T>(
  env: JobEnvironment,
  link: Link,
  request: OpenRequest,
  onEvent: (event: JobEvent) => void,
  outer: AbortSignal,
  job: (open: OpenShare) => Promise<T>,
): Promise<T> {
  const named = [
    ...request.peers.map((text) => ({ peer: asPeer(text), source: 'given' as const })),
    ...link.peers.map((text) => ({ peer: asPeer(text), source: 'hint' as const })),
  ]
  const { holding, live, release } = await env.host.hold(link.cid, outer)
  const isNew = holding.record === null
  const ended = new AbortController()
  const stopFailure = live.onFailure((error) => ended.abort(error))
  const signal = AbortSignal.any([outer, ended.signal])
  let isSought = false
  const seek = (): void => {
    if (isSought || live.isComplete) return
    isSought = true
    env.host.seek(holding, named)
  }
  const watch = watchSeeders(env, holding, live, request.wait, onEvent, seek, (error) => ended.abort(error))
  try {
    seek()
    return await job({ link, holding, live, signal })
  } catch (error) {
    // What its publisher broke is of no use to anybody: it is not kept, unless it was before.
    if (error instanceof FormatError && isNew && holding.record !== null) await quietly(env, () => removeShare(env, link.cid.text))
    throw error
  } finally {
    clearInterval(watch)
    stopFailure()
    if (holding.record !== null || holding.holders > 1) release()
    else {
      await env.host.exclusively(link.cid.text, async () => {
        release()
        await live.intake.ended()
        await quietly(env, () => dropBlocks(env, live.intake.digests))
      })
    }
  }
}

/** Clearing up after a job does not change how the job ended: blocks that stay do no harm. */
async function quietly(env: JobEnvironment, work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (error) {
    env.log.warn('blocks that nobody needs could not be removed', { error })
  }
}

/** Opens the index of a share: root node, root block; pages, and inner nodes of a large tree, come as they are asked for. */
export async function readerOf(env: JobEnvironment, open: OpenShare & { link: Link & { readKey: Secret } }): Promise<ShareReader> {
  const { live, signal, link } = open
  const dag = await live.shapeKnown(signal)
  if (dag.missingNodes <= READING.treeNodesAtOnceMax) live.wantTree()
  return await ShareReader.open({
    opener: env.pool.opener,
    primitives: nodePrimitives,
    readKey: link.readKey,
    shape: dag.shape,
    fetchBlock: (position) => live.block(position, 0, signal),
  })
}

/** Asks for consent (rule X7) by failing, unless it was given. */
export function refuseBombs(reader: ShareReader, consent: boolean): void {
  if (!reader.isExpansive || consent) return
  throw new JobError('X7', `this share unpacks to ${reader.sizeBytes} bytes, over ${FORMAT.expansionMax} times what it weighs`, {
    exitCode: EXIT.needsConsent,
  })
}

export const notInShare = (under: string): JobError =>
  new JobError('NOT_IN_SHARE', `there is no "${under}" in this share; \`shoal ls LINK\` lists what there is`, { exitCode: EXIT.badInput })

function asPeer(address: string): FoundPeer {
  const peer = parsePeerAddress(address)
  if (peer === null)
    throw new JobError('BAD_ADDRESS', `"${address}" is no peer address: it must be a multiaddr that ends in /p2p/ and a peer id`, {
      exitCode: EXIT.usage,
    })
  return peer
}

/** Gives up when nobody was reachable for a while and the look-ups came back empty; with `wait` it looks for ever. */
function watchSeeders(
  env: JobEnvironment,
  holding: Holding,
  live: LiveShare,
  wait: boolean,
  onEvent: (event: JobEvent) => void,
  seek: () => void,
  giveUp: (error: JobError) => void,
): NodeJS.Timeout {
  let since = env.host.now()
  const findsBefore = holding.findsDone
  const blocksBefore = live.fetchedBlocks
  live.lastLinkedAt = since
  return setInterval(() => {
    seek() // a block that was here may have turned out damaged
    holding.dialling?.want(!live.isComplete)
    if (live.isComplete) return
    if (!live.isWanting) {
      // A reader that pauses, or files being written: waiting begins when something is wanted again.
      since = live.lastLinkedAt = env.host.now()
      return
    }
    if (live.links.length > 0) {
      const quietMs = env.host.now() - Math.max(since, live.lastBytesAt)
      if (!wait && quietMs >= FIND.quietMaxMs) giveUp(noSeeder(live))
      return
    }
    const aloneMs = env.host.now() - live.lastLinkedAt
    if (env.budgets.held.down && !wait && aloneMs >= FIND.aloneMinMs) giveUp(volumeUsed(env))
    onEvent({ type: 'progress', phase: 'find', doneBytes: live.fetchedBytes, totalBytes: null, peers: 0 })
    if (wait) return
    const isIdle = (holding.dialling?.count ?? 0) === 0 && holding.findsRunning === 0
    // Whoever gave us blocks may be back in a moment: it is redialled meanwhile.
    const isBroken = live.fetchedBlocks > blocksBefore
    const enough = !isBroken && isIdle && holding.findsDone - findsBefore >= FIND.emptyFindsMax && aloneMs >= FIND.aloneMinMs
    if (!env.host.isOnline || enough || aloneMs >= FIND.aloneMaxMs) giveUp(noSeeder(live))
  }, FIND.watchMs)
}

function volumeUsed({ budgets }: JobEnvironment): JobError {
  const until = new Date(budgets.month().endsMs).toLocaleString('sv-SE', { dateStyle: 'short', timeStyle: 'short' })
  return new JobError(
    'VOLUME_USED',
    `the volume of this month is used up, until ${until}: set more with \`shoal limits --month SIZE\`, or keep waiting with --wait`,
  )
}

function noSeeder(live: LiveShare): JobError {
  const left = live.fetchedBlocks > 0 ? `: the last one left after ${live.fetchedBlocks} blocks, which are kept` : ''
  return new JobError('NO_SEEDER', `no seeder is online for this link${left}`)
}

/** W2 for the sealed blocks: FileError NO_SPACE unless what is missing of the share fits into the home and leaves some room. */
export async function checkSpace(env: JobEnvironment, live: LiveShare): Promise<void> {
  const missingBytes = (live.dag?.shape.totalBytes ?? 0) - live.heldBlocks * FORMAT.blockBytes
  await checkFree(env, missingBytes)
}
