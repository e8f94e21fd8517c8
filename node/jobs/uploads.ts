/**
 * Serves blocks: the driver of the upload machine, one for the whole node.
 *
 * The machine says whose request is next; this reads the block (verified on the way), writes it to the peer within its
 * credit, and reports what was sent. A block that turns out damaged is answered "not here" and is never offered again; one that cannot be
 * read for now is tried again, for "not here" would be believed for as long as the session lasts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { REMOTE_CODES } from '../../protocol/errors.ts'
import { FORMAT, UPLOAD, WIRE } from '../../protocol/limits.ts'
import { Upload, type UploadAction, type UploadEvent } from '../../protocol/swarm/upload.ts'
import type { Log } from '../log.ts'
import { groupOf } from '../network/peer-address.ts'
import type { PeerLink } from '../network/peer-link.ts'
import { FileError } from '../storage/file-error.ts'
import type { LiveShare } from './live-share.ts'

interface Client {
  share: LiveShare
  link: PeerLink
}

export class Uploads {
  readonly #machine: Upload
  readonly #clients = new Map<string, Client>()
  readonly #log: Log
  readonly #now: () => number
  readonly #groupPrivate: boolean
  readonly #readAgainMs: number
  readonly #stopped = new AbortController()
  readonly #isExempt: (link: PeerLink) => boolean
  /** Aborted while no payload goes out but to exempt links. */
  #free = new AbortController()
  /** Links that were told "not here" of what is here. */
  readonly #denied = new Set<PeerLink>()
  /** Those with a block on its way. */
  readonly #serving = new Map<string, Client>()
  /** Peer ids that were sent away because they took nothing, and until when they come last. */
  readonly #lastUntilMs = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined
  #watch: NodeJS.Timeout | undefined

  /** `isExempt`: what goes to this link is never held back. */
  constructor(parts: { log: Log; now: () => number; groupPrivate: boolean; isExempt: (link: PeerLink) => boolean; readAgainMs?: number }) {
    this.#readAgainMs = parts.readAgainMs ?? UPLOAD.readAgainMs
    this.#machine = new Upload({ ...UPLOAD, requestsQueuedMax: WIRE.requestsQueuedMax })
    this.#isExempt = parts.isExempt
    this.#log = parts.log
    this.#now = parts.now
    this.#groupPrivate = parts.groupPrivate
  }

  /** `isReachable`: others can dial it, as far as is known. */
  join(share: LiveShare, link: PeerLink, isReachable: boolean): void {
    const peer = clientOf(share, link)
    const before = this.#clients.get(peer)
    if (before !== undefined) this.leave(share, before.link) // its end comes to us after the news of what replaces it
    this.#clients.set(peer, { share, link })
    const group = groupOf(link.remote.address, this.#groupPrivate)
    const isLast = (this.#lastUntilMs.get(link.remote.peerId) ?? 0) > this.#now()
    this.#feed({ type: 'peerJoined', peer, group, share: share.cid.text, isReachable, isLast })
  }

  leave(share: LiveShare, link: PeerLink): void {
    const peer = clientOf(share, link)
    if (this.#clients.get(peer)?.link !== link) return
    this.#clients.delete(peer)
    this.#denied.delete(link)
    this.#feed({ type: 'peerLeft', peer })
  }

  requested(share: LiveShare, link: PeerLink, level: number, index: number): void {
    const bytes = share.dag?.bytesOf(level, index) ?? FORMAT.blockBytes
    this.#feed({ type: 'requested', peer: clientOf(share, link), level, index, bytes })
  }

  cancelled(share: LiveShare, link: PeerLink, level: number, index: number): void {
    this.#feed({ type: 'cancelled', peer: clientOf(share, link), level, index })
  }

  /** From now on nobody who is connected has all of the share beside us; a leafCount of 0: somebody has. */
  sole(share: LiveShare, leafCount: number): void {
    this.#feed({ type: 'sole', share: share.cid.text, leafCount })
  }

  /** Sends no payload from now on but to exempt links; or goes on. */
  holdBack(isHeld: boolean): void {
    if (isHeld) this.#free.abort(new Error('payload is held back'))
    else if (this.#free.signal.aborted) this.#free = new AbortController()
    if (isHeld) return
    // They believe that we have nothing: a new session tells them better.
    for (const link of this.#denied) link.goodbye(0).catch(() => {}) // heard of when the link has run
    this.#denied.clear()
  }

  /** Memory of blocks on their way out, and how often one had to wait for it. */
  get memory(): { usedBytes: number; waits: number } {
    return { usedBytes: this.#machine.leasedBytes, waits: this.#machine.waitsForMemory }
  }

  /** Memory for blocks on their way out. */
  setLeaseBytesMax(bytes: number): void {
    this.#machine.setLeaseBytesMax(bytes)
  }

  stop(): void {
    clearTimeout(this.#timer)
    clearInterval(this.#watch)
    this.#stopped.abort(new Error('uploads stopped'))
  }

  #feed(event: UploadEvent): void {
    for (const action of this.#machine.handle(event, this.#now())) this.#perform(action)
    clearTimeout(this.#timer)
    const at = this.#machine.nextTimeout()
    if (at === undefined || this.#stopped.signal.aborted) return
    this.#timer = setTimeout(() => this.#feed({ type: 'tick' }), Math.max(1, Math.ceil(at - this.#now())))
    this.#timer.unref()
  }

  #perform(action: UploadAction): void {
    const client = this.#clients.get(action.peer)
    if (client === undefined) return
    const { peer, index } = action
    if (action.type === 'suggest') {
      client.link.suggest(index)
      return
    }
    const { level } = action
    this.#serving.set(peer, client)
    this.#watch ??= setInterval(() => this.#lookForStuck(), UPLOAD.stuckMs / 2).unref()
    const served = (bytes: number): void => {
      if (this.#serving.get(peer) === client) this.#serving.delete(peer)
      if (this.#clients.get(peer) === client) this.#feed({ type: 'served', peer, bytes }) // else its link was replaced
    }
    this.#serve(client, level, index).then(served, (error: unknown) => {
      this.#log.debug('serving a block failed', { error })
      served(0)
    })
  }

  /** Whoever asks and then takes nothing keeps others waiting: first it loses its slot, then, where memory is short, the session. */
  #lookForStuck(): void {
    if (this.#serving.size === 0) {
      clearInterval(this.#watch)
      this.#watch = undefined
      return
    }
    for (const [peer, { link }] of [...this.#serving]) {
      const afterMs = this.#machine.stuckAfterMs(peer)
      const { stalledMs } = link
      if (stalledMs < afterMs) continue
      this.#feed({ type: 'stuck', peer })
      if (stalledMs >= UPLOAD.stuckTimesMax * afterMs && this.#machine.isShort && !link.isClosing) this.#sendAway(link)
    }
  }

  #sendAway(link: PeerLink): void {
    const { peerId } = link.remote
    this.#log.debug('a peer takes nothing of what it asked for', { peer: peerId })
    this.#lastUntilMs.delete(peerId)
    this.#lastUntilMs.set(peerId, this.#now() + UPLOAD.lastMs)
    if (this.#lastUntilMs.size > UPLOAD.lastPeersMax) this.#lastUntilMs.delete(this.#lastUntilMs.keys().next().value!)
    link.goodbye(REMOTE_CODES.TIMEOUT.wire).catch(() => {}) // heard of when the link has run
  }

  async #serve(client: Client, level: number, index: number): Promise<number> {
    const { share, link } = client
    const signal = this.#isExempt(link) ? this.#stopped.signal : AbortSignal.any([this.#stopped.signal, this.#free.signal])
    if (signal.aborted) {
      this.#denied.add(link)
      link.absent(level, index)
      return 0
    }
    const block = await this.#read(share, level, index)
    if (block === 'unreadable') {
      await link.goodbye(0)
      return 0
    }
    if (block === null) {
      link.absent(level, index)
      return 0
    }
    const isServed = await link.serve(level, index, block, signal)
    if (this.#free.signal.aborted && signal.aborted) this.#denied.add(link)
    return isServed ? block.byteLength : 0
  }

  /** Null: it is not here. 'unreadable': it may be, and nobody can tell for now. */
  async #read(share: LiveShare, level: number, index: number): Promise<Uint8Array | null | 'unreadable'> {
    const { signal } = this.#stopped
    for (let tries = 1; ; tries++) {
      try {
        return await share.read(level, index, signal)
      } catch (error) {
        if (!(error instanceof FileError)) throw error
        if (error.code === 'CORRUPT') return null // the store says so itself
        this.#log.warn('a block cannot be read', { error, tries })
        if (tries >= UPLOAD.readsMax) return 'unreadable'
        await sleep(this.#readAgainMs, undefined, { signal, ref: false })
      }
    }
  }
}

/** One peer may fetch several shares over streams of their own. */
const clientOf = (share: LiveShare, link: PeerLink): string => `${link.remote.peerId} ${share.cid.text}`
