/**
 * DRIVER of the contacts machine, one for each share that is open: dials its peers, and exchanges peers with those that are connected.
 *
 * Which addresses may pass is asked of the network; nothing that does not pass reaches the machine or the wire.
 */

import { multihashOf, type ShareCid } from '../../protocol/cid.ts'
import { CONTACTS, WAITS } from '../../protocol/limits.ts'
import { type Contactable, type ContactSource, Contacts, type ContactsAction, type ContactsEvent } from '../../protocol/swarm/contacts.ts'
import type { ExchangedPeer } from '../../protocol/wire/messages.ts'
import type { Log } from '../log.ts'
import { exchangedFrom, exchangedOf } from '../network/exchanged.ts'
import type { FrameStream } from '../network/frame-stream.ts'
import { NetworkError } from '../network/network-error.ts'
import { type LinkInit, PeerLink } from '../network/peer-link.ts'
import type { Remote } from '../network/remote.ts'
import type { FoundPeer, Stack } from '../network/stack.ts'
import type { LiveShare } from './live-share.ts'

/** What a dial needs of a share. */
export interface DialledShare {
  readonly cid: ShareCid
  readonly rendezvous: Uint8Array
  readonly live: LiveShare | null
  /** Links that are about to be attached. */
  linking: number
}

export interface DiallingParts {
  stack: Stack
  /** What a link over this stream is made of. */
  linkInit(frames: FrameStream, remote: Remote): LinkInit
  log: Log
  /** Monotonic milliseconds. */
  now(): number
  /** Tells peers of others, and takes what they tell. */
  isExchanging: boolean
  isBanned(peerId: string): boolean
  load(): Promise<LiveShare>
  /** A hello came through: `joined` or `refused` follows. */
  onLink(link: PeerLink, saidShape: boolean): void
  /** A dial failed and needs the share no longer. */
  onIdle(): void
  /** For the announce machine. */
  onWant(isWanting: boolean): void
  track(task: Promise<void>): void
  signal: AbortSignal
}

/** The contacts of one share. */
export class Dialling {
  readonly #share: DialledShare
  readonly #parts: DiallingParts
  readonly #machine = new Contacts(CONTACTS, Math.random)
  /** The link of each neighbour. */
  readonly #links = new Map<string, PeerLink>()
  /** Of these, those known to have given us something. */
  readonly #useful = new Set<string>()
  /** Blocks that have come, and since when no more have. */
  #came = { blocks: 0, atMs: 0 }
  #timer: NodeJS.Timeout | undefined
  #settling: NodeJS.Timeout | undefined
  /** Aborts when the share is let go of: a dial that came late would push the link of the next job aside. */
  readonly #ended = new AbortController()

  constructor(share: DialledShare, parts: DiallingParts) {
    this.#share = share
    this.#parts = parts
  }

  get hasRoom(): boolean {
    return this.#machine.hasRoom
  }

  /** Dials under way. */
  get count(): number {
    return this.#machine.dialling
  }

  sourceOf(peerId: string): ContactSource | 'itself' | null {
    return this.#machine.sourceOf(peerId)
  }

  /** Somebody who may have blocks of the share. */
  found({ peerId, addresses }: FoundPeer, source: ContactSource): void {
    if (peerId === this.#parts.stack.peerId) return
    if (source === 'given') this.#parts.stack.trustAddresses({ peerId, addresses })
    this.#feed({ type: 'found', peer: peerId, addresses, source })
  }

  /** This computer has another address: who loses us now is dialled, and the share stays open for that. */
  moved(): void {
    this.#feed({ type: 'moved' })
    clearTimeout(this.#settling)
    this.#settling = setTimeout(() => this.#parts.onIdle(), CONTACTS.movedMs).unref()
  }

  /** Whether a neighbour was lost that cannot know where we are. */
  get isMissing(): boolean {
    return this.#machine.isMissing(this.#parts.now())
  }

  want(isWanting: boolean): void {
    this.#feed({ type: 'wanting', isWanting })
  }

  /** Whether others could dial a connected peer, as far as is known now. */
  isDialable(peerId: string): boolean {
    return this.#dialable(peerId).length > 0
  }

  joined(link: PeerLink): void {
    const { peerId, direction } = link.remote
    const before = this.#links.get(peerId)
    if (before !== undefined) this.left(before) // its end comes to us after the news of what replaces it
    this.#links.set(peerId, link)
    this.#feed({ type: 'joined', peer: peerId, addresses: this.#dialable(peerId), direction })
  }

  /** Once a second or so: who has begun to give, and whether anything comes at all of what is wanted. */
  look({ isWanting, fetchedBlocks }: { isWanting: boolean; fetchedBlocks: number }): void {
    const now = this.#parts.now()
    if (!isWanting || fetchedBlocks !== this.#came.blocks) this.#came = { blocks: fetchedBlocks, atMs: now }
    for (const [peer, { stats }] of this.#links) {
      if (stats.verifiedBlocks === 0 || this.#useful.has(peer)) continue
      this.#useful.add(peer)
      this.#feed({ type: 'useful', peer })
    }
    if (now - this.#came.atMs >= CONTACTS.stallMs) this.#feed({ type: 'stalled' })
  }

  /** A neighbour has told where it listens. */
  listens(peerId: string): void {
    const addresses = this.#dialable(peerId)
    if (addresses.length > 0) this.#feed({ type: 'joined', peer: peerId, addresses, direction: 'inbound' })
  }

  left(link: PeerLink): void {
    const { peerId } = link.remote
    if (this.#links.get(peerId) !== link) return
    this.#links.delete(peerId)
    this.#useful.delete(peerId)
    this.#feed({ type: 'left', peer: peerId, wasUseful: link.stats.verifiedBlocks > 0 })
  }

  /** A link is not taken. Gives what to tell the peer before it goes, when that is for lack of room. */
  refused({ remote }: PeerLink, isFull: boolean): ExchangedPeer[] {
    if (remote.direction === 'outbound') this.#feed({ type: 'dialFailed', peer: remote.peerId, isFinal: false })
    if (!isFull || !this.#parts.isExchanging) return []
    const told = this.#machine.handle({ type: 'refused', peer: remote.peerId }, this.#parts.now())
    const others = told.filter((action) => action.type !== 'exchange' || action.peer !== remote.peerId)
    for (const action of others) this.#perform(action)
    this.#schedule()
    return told.flatMap((action) =>
      action.type === 'exchange' && !others.includes(action) ? this.#passable(remote.address, action.peers) : [],
    )
  }

  /** A neighbour told us of others. */
  told(link: PeerLink, peers: ExchangedPeer[]): void {
    if (!this.#parts.isExchanging || this.#ended.signal.aborted) return
    const { stack } = this.#parts
    for (const { peerId, addresses } of exchangedFrom(peers)) {
      const passed = addresses.filter((address) => stack.mayPass(address, link.remote.address))
      if (passed.length === 0 || peerId === stack.peerId) continue
      this.#feed({ type: 'found', peer: peerId, addresses: passed, source: 'exchange', teller: link.remote.peerId })
    }
  }

  /** Connected peers that gave us blocks, and where they can be dialled. */
  useful(): FoundPeer[] {
    return [...this.#links.values()].flatMap(({ remote: { peerId }, stats }) => {
      const addresses = stats.verifiedBlocks > 0 ? this.#parts.stack.dialableAddresses(peerId) : []
      return addresses.length > 0 ? [{ peerId, addresses }] : []
    })
  }

  stop(): void {
    this.#ended.abort(new Error('the share was let go of'))
    clearTimeout(this.#timer)
    clearTimeout(this.#settling)
  }

  /** Where others may dial a neighbour. */
  #dialable(peerId: string): string[] {
    const isOpen = this.#parts.isExchanging && this.#links.get(peerId)?.peerIsDiscreet === false
    return isOpen ? this.#parts.stack.dialableAddresses(peerId) : []
  }

  #feed(event: ContactsEvent): void {
    if (this.#ended.signal.aborted) return
    for (const action of this.#machine.handle(event, this.#parts.now())) this.#perform(action)
    this.#schedule()
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    const at = this.#machine.nextTimeout()
    if (at === undefined || this.#ended.signal.aborted) return
    this.#timer = setTimeout(() => this.#feed({ type: 'tick' }), Math.max(1, Math.ceil(at - this.#parts.now())))
    this.#timer.unref()
  }

  #perform(action: ContactsAction): void {
    if (action.type === 'dial') this.#parts.track(this.#dial(action.peer, action.addresses))
    else if (action.type === 'exchange') this.#tell(action.peer, action.peers)
    else if (action.type === 'drop') this.#drop(action.peer)
    else this.#parts.onWant(action.type === 'wantPeers')
  }

  #drop(peerId: string): void {
    const link = this.#links.get(peerId)
    this.#parts.log.debug('a peer that gave nothing makes room', { peer: peerId })
    link?.goodbye(0).catch(() => {}) // heard of when the link has run
  }

  #tell(peerId: string, peers: Contactable[]): void {
    const link = this.#links.get(peerId)
    if (link === undefined) return
    const passable = this.#passable(link.remote.address, peers)
    if (passable.length > 0) link.sendPeers(passable)
  }

  #passable(seenAt: string, peers: Contactable[]): ExchangedPeer[] {
    const { stack } = this.#parts
    return exchangedOf(
      peers.map(({ peer, addresses }) => ({ peerId: peer, addresses: addresses.filter((address) => stack.mayPass(address, seenAt)) })),
    )
  }

  async #dial(peerId: string, addresses: string[]): Promise<void> {
    const { stack, log, signal: stopped } = this.#parts
    const share = this.#share
    let link: PeerLink | null = null
    let saidShape = false
    let isFinal = false
    share.linking++
    try {
      await Promise.resolve() // whatever else the machine said is done first
      isFinal = this.#parts.isBanned(peerId)
      if (isFinal) throw new NetworkError('REFUSED', 'banned')
      const signal = AbortSignal.any([stopped, this.#ended.signal, AbortSignal.timeout(WAITS.dialMs)])
      const { frames, remote } = await stack.openSwarm({ peerId, addresses }, signal)
      saidShape = (await this.#parts.load()).knowsShape()
      link = await PeerLink.connect({
        ...this.#parts.linkInit(frames, remote),
        rootMultihash: multihashOf(share.cid),
        rendezvous: share.rendezvous,
        knowsShape: saidShape,
        signal,
      })
    } catch (error) {
      log.debug('a peer could not be reached', { peer: peerId, error })
      isFinal ||= error instanceof NetworkError && error.code === 'UNKNOWN_SHARE'
    } finally {
      share.linking--
    }
    if (link !== null) {
      this.#parts.onLink(link, saidShape)
      return
    }
    this.#feed({ type: 'dialFailed', peer: peerId, isFinal })
    this.#parts.onIdle()
  }
}
