/**
 * One stream of the peer protocol without its rules: frames go out as they are given, right or wrong, and what comes in is only decoded.
 * The hello is the real one, so that what follows is judged as a session.
 */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { FrameStream } from '../../node/network/frame-stream.ts'
import { multihashOf, rendezvousDigest, type ShareCid } from '../../protocol/cid.ts'
import { helloProof } from '../../protocol/wire/hello.ts'
import { decodeMessage, encodeMessage, type Message } from '../../protocol/wire/messages.ts'
import { nodePrimitives } from '../primitives-node.ts'

const MIB = 2 ** 20
const DATA_BYTES = 65_456
/** No bounds of our own: whoever attacks may buffer what it likes. */
const LIMITS = { frameBytesMax: 64 * MIB, bufferBytesMax: () => 64 * MIB }

/** A bare libp2p node with none of the product's limits; a fresh identity. */
export const createHostileNode = (listen: string[]): Promise<Libp2p> =>
  createLibp2p({
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: 256 * 1024 } })], // so that whoever pauses is not flooded itself
    connectionMonitor: { enabled: false },
    connectionManager: { inboundConnectionThreshold: 1_000 },
    services: { identify: identify(), ping: ping() },
  }) as unknown as Promise<Libp2p> // its services are of no interest here

/** What a hostile peer knows of the share: enough to prove that it does. */
export interface Secrets {
  rendezvous: Uint8Array
  rootMultihash: Uint8Array
}

export const secretsOf = async (cid: ShareCid): Promise<Secrets> => ({
  rendezvous: await rendezvousDigest(nodePrimitives, cid),
  rootMultihash: multihashOf(cid),
})

/** Bytes of a frame, with a length that need not be true. */
export function framed(body: Uint8Array, lengthBytes = body.byteLength): Uint8Array {
  const frame = new Uint8Array(4 + body.byteLength)
  new DataView(frame.buffer).setUint32(0, lengthBytes)
  frame.set(body, 4)
  return frame
}

export class RawSession {
  readonly stream: Stream
  readonly #frames: FrameStream
  readonly #connection: Connection
  readonly #self: Uint8Array
  readonly #patience: AbortSignal
  readonly #openedMs = performance.now()
  #creditBytes = 0
  #wake: () => void = () => {}
  #isOver = false
  /** Code of the GOODBYE that the other side said, if any. */
  goodbye: number | null = null
  /** Bytes of DATA frames that were sent, heads left out. */
  dataBytes = 0

  constructor(self: Libp2p, connection: Connection, stream: Stream, patience: AbortSignal) {
    this.stream = stream
    this.#frames = new FrameStream(stream, LIMITS)
    this.#connection = connection
    this.#self = self.peerId.toMultihash().bytes
    this.#patience = patience
  }

  get ageMs(): number {
    return performance.now() - this.#openedMs
  }

  /** True once nothing can be written any more. */
  get isOver(): boolean {
    return this.#isOver || this.stream.status !== 'open'
  }

  /** Says a right HELLO; true when the answer was WELCOME. */
  async sayHello(secrets: Secrets): Promise<boolean> {
    await this.send({ type: 'hello', rendezvous: secrets.rendezvous, proof: await this.proof(secrets, 'request'), knowsShape: true })
    return (await this.read())?.type === 'welcome'
  }

  /** Answers the HELLO of somebody who dialled us; true when there was one. */
  async answerHello(secrets: Secrets): Promise<boolean> {
    if ((await this.read())?.type !== 'hello') return false
    await this.send({ type: 'welcome', proof: await this.proof(secrets, 'response'), knowsShape: true })
    return true
  }

  proof({ rootMultihash }: Secrets, role: 'request' | 'response'): Promise<Uint8Array> {
    return helloProof(nodePrimitives, rootMultihash, role, this.#self, this.#connection.remotePeer.toMultihash().bytes)
  }

  /** The next message; null when the other side is gone. Credit and goodbye are noted on the way. */
  async read(): Promise<Message | null> {
    const frame = await this.readFrame()
    if (frame === null) return null
    const message = decodeMessage(frame)
    if (message.type === 'credit') this.#creditBytes += message.bytes
    if (message.type === 'goodbye') this.goodbye = message.code
    this.#wake()
    return message
  }

  async readFrame(): Promise<Uint8Array | null> {
    try {
      const frame = await this.#frames.read(this.#patience)
      if (frame === null) this.#end()
      return frame
    } catch {
      this.#end() // reset, which is what most of these sessions come to
      return null
    }
  }

  /** Reads until the other side is gone. */
  async untilOver(): Promise<void> {
    while ((await this.read()) !== null);
  }

  async send(message: Message): Promise<void> {
    await this.sendBytes(framed(encodeMessage(message)))
  }

  /** Bytes as they are, whatever they say; resolves when there is room for more, or when it is over. */
  async sendBytes(bytes: Uint8Array): Promise<void> {
    if (this.isOver) return
    try {
      this.stream.send(bytes)
    } catch {
      this.#end() // closed in this very moment
      return
    }
    while (this.stream.writableNeedsDrain && !this.isOver) {
      await new Promise<void>((resolve) => {
        this.stream.addEventListener('drain', () => resolve(), { once: true })
        this.stream.addEventListener('close', () => resolve(), { once: true })
      })
    }
  }

  /** A block in DATA frames as credit comes in, which somebody else has to read meanwhile. `total` may be a lie. */
  async sendBlock(level: number, index: number, bytes: Uint8Array, total = bytes.byteLength): Promise<void> {
    for (let offset = 0; offset < bytes.byteLength && !this.isOver; ) {
      const count = Math.min(DATA_BYTES, bytes.byteLength - offset, this.#creditBytes)
      if (count === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        continue
      }
      this.#creditBytes -= count
      this.dataBytes += count
      await this.send({ type: 'data', level, index, total, offset, bytes: bytes.subarray(offset, offset + count) })
      offset += count
    }
  }

  /** Takes no more bytes from the transport, so that the other side's window closes. */
  stopReading(): void {
    this.stream.pause()
  }

  /** Ends our direction after what was sent. */
  async finish(): Promise<void> {
    await this.#frames.close(this.#patience)
  }

  abort(): void {
    this.#frames.abort(new Error('enough'))
    this.#end()
  }

  #end(): void {
    this.#isOver = true
    this.#wake()
  }
}
