/**
 * A process of hostile peers: each order it gets (as its argument, or as a message) makes one more, with an identity of its own, that
 * speaks raw frames of the peer protocol over real libp2p. It knows the share, so its hellos prove. Loopback or namespaces only.
 */
import { randomBytes, randomInt } from 'node:crypto'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { lpStream } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { type DhtCodec, dhtMessageUrl } from '../../node/network/dht-decode.ts'
import { parseCid } from '../../protocol/cid.ts'
import { encodeMessage } from '../../protocol/wire/messages.ts'
import { readTree, type StoredTree } from '../kit/stored.ts'
import { ACTS } from './kinds.ts'
import type { Command, Kind, Order, Probe, Report } from './orders.ts'
import { createHostileNode, framed, RawSession, type Secrets, secretsOf } from './raw-session.ts'

const PROBES = 200
const AGAIN_MS = 30
/** Not let in so often in a row: then it is out for good. Before it was in once it has more patience. */
const REFUSALS_MAX = 3
const FIRST_REFUSALS_MAX = 300

/** What some say in place of a hello. */
const HELLOS: Partial<Record<Kind, Uint8Array>> = {
  'half-hello': framed(new Uint8Array(20), 66),
  'oversize-hello': framed(new Uint8Array(20), 2 ** 31),
  'other-hello': framed(encodeMessage({ type: 'keepalive' })),
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const NEVER = new AbortController().signal

const ended = ({ goodbye, dataBytes, ageMs }: RawSession): Report => ({ type: 'ended', goodbye, dataBytes, tookMs: ageMs })

class HostilePeer {
  readonly #number: number
  readonly #order: Order
  readonly #node: Libp2p
  readonly #secrets: Secrets
  readonly #tree: StoredTree
  #isStopped = false

  private constructor(number: number, order: Order, node: Libp2p, secrets: Secrets, tree: StoredTree) {
    this.#number = number
    this.#order = order
    this.#node = node
    this.#secrets = secrets
    this.#tree = tree
  }

  static async start(number: number, order: Order): Promise<HostilePeer> {
    const cid = parseCid(order.cid)
    const [node, secrets, tree] = await Promise.all([createHostileNode([order.listen]), secretsOf(cid), readTree(order.home, cid)])
    const peer = new HostilePeer(number, order, node, secrets, tree)
    await node.handle(peer.#protocol, (stream, connection) => peer.#answered(stream, connection), { maxInboundStreams: 1_000 })
    for (const server of order.announceTo ?? []) await peer.#announce(server)
    peer.#say({ type: 'ready', peerId: node.peerId.toString(), address: node.getMultiaddrs()[0]?.toString() ?? '' })
    return peer
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#node.stop()
  }

  get #protocol(): string {
    return `/shoal/net/${this.#order.network}/swarm/1`
  }

  #say(report: Report): void {
    process.send?.({ number: this.#number, report })
  }

  /** A provider record like that of any seeder. */
  async #announce(server: string): Promise<void> {
    const { Message } = (await import(dhtMessageUrl())) as { Message: DhtCodec } // the library hides this type
    const stream = await this.#node.dialProtocol(multiaddr(server), `/shoal/net/${this.#order.network}/kad/1.0.0`)
    const self = { id: this.#node.peerId.toMultihash().bytes, multiaddrs: this.#node.getMultiaddrs().map((address) => address.bytes) }
    const key = Uint8Array.from([0x12, 0x20, ...this.#secrets.rendezvous])
    await lpStream(stream).write(Message.encode({ type: 'ADD_PROVIDER', key, closer: [], providers: [self] }))
    await stream.close()
  }

  /** Somebody dialled us. */
  async #answered(stream: Stream, connection: Connection): Promise<void> {
    const session = new RawSession(this.#node, connection, stream, NEVER)
    if (this.#order.kind === 'forged-hello' || this.#order.kind === 'probe') {
      await session.read()
      await session.send({ type: 'welcome', proof: randomBytes(32), knowsShape: true })
      this.#say({ type: 'deed' })
      await session.untilOver()
    } else if (await session.answerHello(this.#secrets)) await this.#act(session)
  }

  /** Dials `target` over and over, until it lets us in no more. */
  async visit(target: string, patience: number): Promise<void> {
    if (this.#order.kind === 'probe') return await this.#probe(target)
    let sessions = 0
    for (let refusals = 0; !this.#isStopped && refusals < (sessions > 0 ? REFUSALS_MAX : patience); ) {
      const isIn = await this.#call(target).catch(() => false)
      if (isIn) sessions++
      refusals = isIn ? 0 : refusals + 1
      await sleep(AGAIN_MS)
    }
    this.#say({ type: 'refused', sessions })
  }

  /** One session that we open; false when we were not let in. */
  async #call(target: string): Promise<boolean> {
    const session = await this.#open(target)
    const hello = HELLOS[this.#order.kind]
    if (hello !== undefined) {
      await session.sendBytes(hello)
      return await this.#awaitEnd(session)
    }
    if (this.#order.kind === 'forged-hello') {
      await session.send({ type: 'hello', rendezvous: this.#secrets.rendezvous, proof: randomBytes(32), knowsShape: true })
      return await this.#awaitEnd(session)
    }
    if (!(await session.sayHello(this.#secrets))) {
      session.abort()
      return false
    }
    await this.#act(session)
    return true
  }

  /** After a hello that leads nowhere. */
  async #awaitEnd(session: RawSession): Promise<boolean> {
    this.#say({ type: 'deed' })
    await session.untilOver()
    this.#say(ended(session))
    return true
  }

  async #open(target: string): Promise<RawSession> {
    const address = multiaddr(target)
    const connection = await this.#node.dial(address, { signal: AbortSignal.timeout(5_000) })
    const stream = await connection.newStream(this.#protocol, { maxOutboundStreams: 1_000, signal: AbortSignal.timeout(5_000) })
    return new RawSession(this.#node, connection, stream, NEVER)
  }

  async #act(session: RawSession): Promise<void> {
    let isDone = false
    const deed = (): void => {
      if (!isDone) this.#say({ type: 'deed' })
      isDone = true
    }
    const { kind } = this.#order
    await ACTS[kind]?.({ session, order: this.#order, tree: this.#tree, deed }).catch(() => {}) // cut off in the middle of it
    session.abort()
    this.#say(ended(session))
  }

  /** A wrong proof for the share that is there, and any proof for one that is not, by turns. */
  async #probe(target: string): Promise<void> {
    const probes: Probe[] = []
    for (let i = 0; i < PROBES; i++) {
      const isKnown = randomInt(2) === 0
      const rendezvous = isKnown ? this.#secrets.rendezvous : randomBytes(32)
      const session = await this.#open(target)
      const since = performance.now()
      await session.sendBytes(framed(encodeMessage({ type: 'hello', rendezvous, proof: randomBytes(32), knowsShape: false })))
      const answers: string[] = []
      let tookMs = Number.NaN
      for (let frame = await session.readFrame(); frame !== null; frame = await session.readFrame()) {
        if (answers.length === 0) tookMs = performance.now() - since
        answers.push(Buffer.from(frame).toString('hex'))
      }
      probes.push({ isKnown, answer: answers.join(' '), tookMs })
      await session.finish()
    }
    this.#say({ type: 'probed', probes })
  }
}

const peers = new Map<number, Promise<HostilePeer>>()

async function obey(command: Command): Promise<void> {
  const { number } = command
  if (command.do === 'start') {
    const starting = HostilePeer.start(number, command.order)
    peers.set(number, starting)
    const peer = await starting
    await Promise.all(command.order.targets.map((target) => peer.visit(target, FIRST_REFUSALS_MAX)))
  } else if (command.do === 'visit') await (await peers.get(number))?.visit(command.target, REFUSALS_MAX)
  else await (await peers.get(number))?.stop()
}

const run = (command: Command): void => {
  obey(command).catch((error: unknown) => {
    console.error(error)
    process.exit(1)
  })
}

process.on('message', run)
process.on('disconnect', () => process.exit(0)) // nobody is left to end it
// A hostile peer has no manners: what is reset under its hands is no reason to stop.
process.on('unhandledRejection', () => {})
if (process.argv[2] !== undefined) run({ do: 'start', number: 0, order: JSON.parse(process.argv[2]) as Order }) // written by whoever starts it
