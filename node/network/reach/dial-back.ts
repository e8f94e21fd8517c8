/**
 * AutoNAT v2, both sides: asks a peer to dial an address of ours, and dials others back that ask. Wire as in
 * https://github.com/libp2p/specs/blob/master/autonat/autonat-v2.md
 *
 * That we were reached counts only when the number that we gave arrived over a connection which came in meanwhile. Whoever asks gets one dial,
 * to one public address that the dial budget allows, and pays with data when that is not where it comes from.
 */
import { randomInt } from 'node:crypto'
import { isIPv6, type Socket } from 'node:net'
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import { pbStream } from '@libp2p/utils'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { Hit } from '../../../protocol/limit-table.ts'
import { CHECKING, NETWORK, REACH } from '../../../protocol/limits.ts'
import type { CheckOutcome } from '../../../protocol/swarm/reach.ts'
import type { Log } from '../../log.ts'
import { type Endpoint, endpointOf, hostGroup, peerIn } from '../addresses.ts'
import type { DialBudget } from '../dial-budget.ts'
import { asError } from '../network-error.ts'
import type { Far } from './far.ts'
import type { CheckMessage, Codecs } from './messages.ts'
import { MinuteWindows } from './windows.ts'

export const DIAL_REQUEST = '/libp2p/autonat/2/dial-request'
const DIAL_BACK = '/libp2p/autonat/2/dial-back'
const IN = { maxInboundStreams: NETWORK.inboundStreamsPerProtocolMax }
// The data may all be there before the first of it is looked at.
const STREAM_LIMITS = { maxDataLength: CHECKING.messageBytesMax, maxBufferSize: 2 * CHECKING.dataBytesMax }

export interface DialBackParts {
  node: Libp2p
  codecs: Codecs
  budget: DialBudget
  far: Far
  log: Log
  hit: Hit
  now: () => number
}

type Messages = { read(signal: AbortSignal): Promise<CheckMessage>; write(message: CheckMessage, signal: AbortSignal): Promise<void> }

export class DialBack {
  readonly #parts: DialBackParts
  readonly #windows = new MinuteWindows(CHECKING.perMinuteMax, CHECKING.perHostPerMinuteMax)
  /** What we ask of others in a minute, and pay for it. */
  readonly #asks = new MinuteWindows(CHECKING.asksPerMinuteMax, CHECKING.asksPerHostPerMinuteMax)
  readonly #sent = new MinuteWindows(CHECKING.sentBytesPerMinuteMax, CHECKING.sentBytesPerMinuteMax)
  /** Numbers that we gave out and wait for: when, for which address, and whether they came. */
  readonly #waiting = new Map<bigint, { sinceMs: number; asked: Endpoint | null; isOwn: boolean; hasCome: boolean }>()
  /** The last dial back to each peer, and those before it: one at a time, since a second dial would be joined to the first. */
  readonly #dials = new Map<string, Promise<unknown>>()

  constructor(parts: DialBackParts) {
    this.#parts = parts
  }

  async start(): Promise<void> {
    const { node } = this.#parts
    await node.handle(DIAL_REQUEST, (stream, connection) => this.#guard(stream, this.#serve(stream, connection)), IN)
    await node.handle(DIAL_BACK, (stream, connection) => this.#guard(stream, this.#take(stream, connection)), IN)
  }

  /** Whether a peer is being dialled back: what comes of that is no peer that we looked for. */
  isDialling(peer: PeerId): boolean {
    return this.#dials.has(peer.toString())
  }

  /** Asks the peer of a connection to dial an address of ours; `isOwn`: at an interface of this machine. */
  async check(connection: Connection, address: Multiaddr, isOwn: boolean, outer: AbortSignal): Promise<CheckOutcome> {
    const { now } = this.#parts
    if (!this.#asks.take(endpointOf(address)?.host ?? '', now())) return 'refused'
    const signal = AbortSignal.any([outer, AbortSignal.timeout(REACH.checkMs)])
    const nonce = BigInt(randomInt(1, 2 ** 47))
    this.#waiting.set(nonce, { sinceMs: Date.now(), asked: endpointOf(address), isOwn, hasCome: false })
    let stream: Stream | undefined
    try {
      stream = await connection.newStream(DIAL_REQUEST, { signal, maxOutboundStreams: REACH.addressesMax })
      const messages = this.#messagesOf(stream)
      await messages.write({ dialRequest: { addrs: [address.bytes], nonce } }, signal)
      let answer = await messages.read(signal)
      if (answer.dialDataRequest !== undefined) {
        const bytes = Number(answer.dialDataRequest.numBytes)
        if (!this.#sent.take('', now(), bytes)) return 'refused'
        await sendData(messages, bytes, signal)
        answer = await messages.read(signal)
      }
      return outcomeOf(answer, this.#waiting.get(nonce)?.hasCome === true)
    } catch (thrown) {
      outer.throwIfAborted()
      this.#parts.log.debug('a peer did not dial us back', { peer: connection.remotePeer.toString(), cause: asError(thrown) })
      return 'refused'
    } finally {
      this.#waiting.delete(nonce)
      if (stream !== undefined) void endStream(stream)
    }
  }

  #messagesOf(stream: Stream): Messages {
    const messages = pbStream(stream, STREAM_LIMITS).pb(this.#parts.codecs.check)
    return { read: (signal) => messages.read({ signal }), write: (message, signal) => messages.write(message, { signal }) }
  }

  /** Nothing that happens on a stream may escape it. */
  async #guard(stream: Stream, work: Promise<void>): Promise<void> {
    try {
      await work
      await endStream(stream)
    } catch (thrown) {
      this.#parts.log.debug('a check ended early', { cause: asError(thrown) })
      stream.abort(asError(thrown))
    }
  }

  /** The number that we gave somebody, over a connection that came in after that. */
  async #take(stream: Stream, connection: Connection): Promise<void> {
    const { codecs } = this.#parts
    const signal = AbortSignal.timeout(CHECKING.dialMs)
    const messages = pbStream(stream, STREAM_LIMITS)
    const { nonce } = await messages.read(codecs.dialBack, { signal })
    const waiting = this.#waiting.get(nonce)
    const isNew = connection.direction === 'inbound' && waiting !== undefined && connection.timeline.open >= waiting.sinceMs
    if (!isNew || (connection.limits !== undefined && connection.limits !== null)) throw new Error('nobody was asked for this')
    if (!this.#cameTo(connection, waiting)) throw new Error('it came to another address than the one asked about')
    waiting.hasCome = true
    await messages.write({ status: 'OK' }, codecs.dialBackResponse, { signal })
  }

  /** Behind a router nobody sees which address was dialled; where it is this machine's own, it must be the one asked about. */
  #cameTo(connection: Connection, { asked, isOwn }: { asked: Endpoint | null; isOwn: boolean }): boolean {
    const local = localAddressOf(connection)
    if (local === null || asked === null) return !isOwn
    if (!isOwn && this.#parts.far.endpoint(local) === null) return true
    const endpoint = endpointOf(local)
    return endpoint?.host === asked.host && endpoint.port === asked.port
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const { far, hit, now } = this.#parts
    const signal = AbortSignal.timeout(REACH.checkMs)
    const messages = this.#messagesOf(stream)
    const from = far.groupOf(connection) === null ? null : endpointOf(connection.remoteAddr)
    const { dialRequest } = await messages.read(signal)
    if (dialRequest === undefined) throw new Error('not a request')
    const refuse = (status: string): Promise<void> => messages.write({ dialResponse: { status, addrIdx: 0, dialStatus: 'UNUSED' } }, signal)
    if (from === null || !this.#windows.take(hostGroup(from, true) ?? from.host, now())) {
      if (from !== null) hit('checks')
      return await refuse('E_REQUEST_REJECTED')
    }
    const chosen = this.#choose(dialRequest.addrs, connection.remotePeer)
    if (chosen === null) return await refuse('E_DIAL_REFUSED')
    if (chosen.host !== from.host) await takeData(messages, chosen.index, signal)
    const dialStatus = await this.#inTurn(connection.remotePeer, () => this.#dial(chosen.address, connection, dialRequest.nonce))
    await messages.write({ dialResponse: { status: 'OK', addrIdx: chosen.index, dialStatus } }, signal)
  }

  /** The first address that may be dialled at all, and leads to nobody but the asker. */
  #choose(addresses: Uint8Array[], asker: PeerId): { index: number; address: Multiaddr; host: string } | null {
    for (const [index, bytes] of addresses.slice(0, CHECKING.addressesLookedAtMax).entries()) {
      const address = parse(bytes)
      const endpoint = address === null ? null : this.#parts.far.endpoint(address)
      if (address === null || endpoint === null || (peerIn(address) ?? asker.toString()) !== asker.toString()) continue
      if (this.#parts.budget.allows(address)) return { index, address, host: endpoint.host }
    }
    return null
  }

  async #inTurn<T>(peer: PeerId, work: () => Promise<T>): Promise<T> {
    const key = peer.toString()
    const turn = (this.#dials.get(key) ?? Promise.resolve()).then(work, work)
    this.#dials.set(key, turn)
    try {
      return await turn
    } finally {
      if (this.#dials.get(key) === turn) this.#dials.delete(key)
    }
  }

  async #dial(address: Multiaddr, asking: Connection, nonce: bigint): Promise<string> {
    const { node, codecs } = this.#parts
    const signal = AbortSignal.timeout(CHECKING.dialMs)
    const whole = address.toString().includes('/p2p/') ? address : address.encapsulate(`/p2p/${asking.remotePeer.toString()}`)
    const before = new Set(node.getConnections(asking.remotePeer).map(({ id }) => id))
    // It would be joined to that dial, which others wait for.
    if (node.getDialQueue().some(({ peerId }) => peerId?.equals(asking.remotePeer))) return 'UNUSED'
    let connection: Connection
    try {
      connection = await node.dial(whole, { signal, force: true })
    } catch {
      return 'E_DIAL_ERROR' // that is the answer
    }
    try {
      if (before.has(connection.id)) throw new Error('a connection that was there before')
      const stream = await connection.newStream(DIAL_BACK, { signal })
      const messages = pbStream(stream, STREAM_LIMITS)
      await messages.write({ nonce }, codecs.dialBack, { signal })
      await messages.read(codecs.dialBackResponse, { signal })
      return 'OK'
    } catch {
      return 'E_DIAL_BACK_ERROR' // that is the answer
    } finally {
      if (!before.has(connection.id)) connection.close({ signal: AbortSignal.timeout(CHECKING.dialMs) }).catch(() => {}) // closed all the same
    }
  }
}

function outcomeOf({ dialResponse }: CheckMessage, hasCome: boolean): CheckOutcome {
  if (hasCome) return 'reached'
  return dialResponse?.status === 'OK' && dialResponse.dialStatus === 'E_DIAL_ERROR' ? 'failed' : 'refused'
}

async function sendData(messages: Messages, bytes: number, signal: AbortSignal): Promise<void> {
  if (bytes > CHECKING.dataBytesMax) throw new Error(`${bytes} bytes are asked for, limit ${CHECKING.dataBytesMax}`)
  for (let sent = 0; sent < bytes; sent += CHECKING.dataChunkBytes) {
    await messages.write({ dialDataResponse: { data: new Uint8Array(Math.min(CHECKING.dataChunkBytes, bytes - sent)) } }, signal)
  }
}

async function takeData(messages: Messages, addrIdx: number, signal: AbortSignal): Promise<void> {
  const bytes = randomInt(CHECKING.dataBytesMin, CHECKING.dataBytesMax)
  await messages.write({ dialDataRequest: { addrIdx, numBytes: BigInt(bytes) } }, signal)
  for (let came = 0; came < bytes; ) {
    const { dialDataResponse } = await messages.read(signal)
    const count = dialDataResponse?.data.byteLength ?? 0
    if (count === 0) throw new Error('no data')
    came += count
  }
}

/** Finishes our side, and resets a stream of which the other side does not finish in time. Never throws. */
async function endStream(stream: Stream): Promise<void> {
  const signal = AbortSignal.timeout(CHECKING.dialMs)
  await stream.close({ signal }).catch((thrown: unknown) => stream.abort(asError(thrown)))
  if (stream.remoteWriteStatus === 'closed' || stream.status !== 'open') return
  const late = (): void => stream.abort(new Error('the other side did not finish'))
  signal.addEventListener('abort', late, { once: true })
  stream.addEventListener('close', () => signal.removeEventListener('abort', late), { once: true })
}

/** Where on this machine a connection over TCP has arrived; null for any other. */
function localAddressOf(connection: Connection): Multiaddr | null {
  const { maConn } = connection as { maConn?: { socket?: Partial<Socket> } } // public fields of the libraries' own classes
  const { localAddress, localPort } = maConn?.socket ?? {}
  if (localAddress === undefined || localPort === undefined) return null
  return multiaddr(`/${isIPv6(localAddress) ? 'ip6' : 'ip4'}/${localAddress.split('%')[0]}/tcp/${localPort}`)
}

function parse(bytes: Uint8Array): Multiaddr | null {
  try {
    return multiaddr(bytes)
  } catch {
    return null // a stranger's bytes
  }
}
