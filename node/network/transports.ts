/**
 * TCP and WebSocket as this node uses them: each dial is counted where its socket is opened, whoever asked; what is read from a socket is
 * counted; and a socket whose own address is gone ends.
 *
 * The library's WebSockets hold nobody back: they read on while their reader waits, take messages of 100 MiB, let a socket wait for ever
 * before its first byte, end the process over a message that is too long, and throw instead of ending a connection. All of that is set right
 * here, through fields of classes that are not exported; library-facts.test.ts holds them.
 */
import type { Server, Socket } from 'node:net'
import type { MultiaddrConnection, Transport, Upgrader } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import type { Multiaddr } from '@multiformats/multiaddr'
import { multiaddrToUri } from '@multiformats/multiaddr-to-uri'
import { Uint8ArrayList } from 'uint8arraylist'
import { WebSocket, type WebSocketServer } from 'ws'
import { NETWORK } from '../../protocol/limits.ts'
import type { DialBudget } from './dial-budget.ts'
import type { FairReads } from './fair-reads.ts'
import { NetworkError } from './network-error.ts'
import type { OwnHosts } from './own-hosts.ts'

export interface Guards {
  budget: DialBudget
  reads: FairReads
  hosts: OwnHosts
  /** Sockets that come in on one address; null: as many as come. */
  socketsMax: number | null
  /** Host that sockets go out from; null: whichever the system takes. */
  dialFrom: string | null
}

/** TCP within `guards`. */
export function guardedTcp(guards: Guards): ReturnType<typeof tcp> {
  return (components) => {
    const { socketsMax, dialFrom } = guards
    const transport = tcp(socketsMax === null ? {} : { maxConnections: socketsMax })(components)
    const from = dialFrom === null ? {} : { localAddress: dialFrom } // handed through to the socket
    return guard(transport, guards, from, (maConn) => {
      const { socket } = maConn as unknown as { socket?: Socket }
      if (socket !== undefined) sendTogether(maConn, socket)
      return socket
    })
  }
}

/** WebSocket within `guards`; one more way in and out, slower than TCP, where only the web gets through. */
export function guardedWebSockets(guards: Guards): ReturnType<typeof webSockets> {
  const timeouts = { headersTimeout: NETWORK.inboundUpgradeMs, requestTimeout: NETWORK.inboundUpgradeMs, keepAliveTimeout: 1_000 }
  return (components) => {
    const http = { ...timeouts, connectionsCheckingInterval: timeouts.headersTimeout / 4 }
    const transport = webSockets({ http, maxBufferedAmount: NETWORK.readBufferBytesMax })(components)
    const connecting = transport as unknown as { _connect(address: Multiaddr, options: { signal?: AbortSignal }): Promise<WebSocket> }
    connecting._connect = (address, { signal }) => connect(multiaddrToUri(address), guards.dialFrom, signal)
    const guarded = guard(transport, guards, {}, (maConn) => {
      const { websocket } = maConn as unknown as { websocket: WebSocket }
      holdBack(maConn, websocket)
      return socketOf(websocket)
    })
    const createListener = guarded.createListener.bind(guarded)
    guarded.createListener = (options) => {
      const listener = createListener(options)
      boundListener(listener as unknown as { server: Server; wsServer: WebSocketServer }, guards.socketsMax)
      return listener
    }
    return guarded
  }
}

/** Counts dials, and hands each new socket to whoever watches over them. */
function guard(
  transport: Transport,
  { budget, reads, hosts }: Guards,
  from: object,
  socketIn: (maConn: MultiaddrConnection) => Socket | undefined,
): Transport {
  const dial = transport.dial.bind(transport)
  const createListener = transport.createListener.bind(transport)
  const watch = (maConn: MultiaddrConnection): void => {
    const socket = socketIn(maConn)
    if (socket === undefined) return
    reads.watch(socket)
    hosts.watch(socket)
  }
  transport.createListener = (options) => createListener({ ...options, upgrader: watching(options.upgrader, watch) })
  transport.dial = async (address, options) => {
    const refusal = budget.refusal(address)
    if (refusal !== null) throw new NetworkError('BUDGET', refusal)
    budget.spend(address)
    return dial(address, { ...options, ...from, upgrader: watching(options.upgrader, watch) })
  }
  return transport
}

/** The upgrader, which is handed each new connection. */
function watching(upgrader: Upgrader, watch: (maConn: MultiaddrConnection) => void): Upgrader {
  return new Proxy(upgrader, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      if (name !== 'upgradeInbound' && name !== 'upgradeOutbound') return value.bind(target)
      return (maConn: MultiaddrConnection, ...rest: unknown[]) => {
        watch(maConn)
        return Reflect.apply(value, target, [maConn, ...rest])
      }
    },
  })
}

/** The socket below; there is one from the moment at which it is open. */
const socketOf = (websocket: WebSocket): Socket | undefined => (websocket as unknown as { _socket: Socket | null })._socket ?? undefined

const MESSAGE_BYTES = NETWORK.readBytesPerTurn / 2
/** Nothing is compressed, and no message is longer than what is read in one turn. */
const BOUNDS = { maxPayload: NETWORK.readBytesPerTurn, perMessageDeflate: false }

async function connect(uri: string, dialFrom: string | null, signal: AbortSignal | undefined): Promise<WebSocket> {
  signal?.throwIfAborted()
  const from = dialFrom === null ? {} : { localAddress: dialFrom }
  const websocket = new WebSocket(uri, { ...BOUNDS, ...from, followRedirects: false })
  websocket.binaryType = 'arraybuffer'
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onAbort = (): void => {
    websocket.terminate()
    reject(signal?.reason)
  }
  websocket.on('error', reject) // for all its life: an error that nobody hears ends the process
  websocket.once('open', resolve)
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    await promise
    return websocket
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

/** What its reader does not want yet stays with the sender; what fails ends this connection and nothing else. */
export function holdBack(maConn: object, websocket: WebSocket): void {
  websocket.on('error', () => websocket.terminate())
  const { sendData } = maConn as unknown as { sendData(data: Uint8ArrayList): unknown }
  Object.assign(maConn, {
    // In messages that are not too long for the other side, instead of one for each part.
    sendData: (data: Uint8ArrayList) => {
      const together = new Uint8ArrayList()
      for (let at = 0; at < data.byteLength; at += MESSAGE_BYTES)
        together.append(data.subarray(at, Math.min(at + MESSAGE_BYTES, data.byteLength)))
      return sendData.call(maConn, together)
    },
    sendPause: () => websocket.pause(),
    sendResume: () => websocket.resume(),
    sendReset: () => websocket.terminate(),
  })
}

/**
 * What is sent in one turn leaves in one system call, and no message waits in its middle. The library writes each part by itself: the length
 * of a message, a header, its content and its tag are four calls, four packets and four times the reader is woken.
 */
export function sendTogether(maConn: object, socket: Pick<Socket, 'cork' | 'uncork' | 'write' | 'writableCorked'>): void {
  const sendData = (data: Iterable<Uint8Array> & { byteLength: number }): { sentBytes: number; canSendMore: boolean } => {
    if (socket.writableCorked === 0) {
      socket.cork()
      process.nextTick(() => socket.uncork())
    }
    let canSendMore = true
    for (const bytes of data) canSendMore = socket.write(bytes)
    return { sentBytes: data.byteLength, canSendMore }
  }
  Object.assign(maConn, { sendData })
}

function boundListener({ server, wsServer }: { server: Server; wsServer: WebSocketServer }, socketsMax: number | null): void {
  Object.assign(wsServer.options, BOUNDS)
  if (socketsMax !== null) server.maxConnections = socketsMax
  server.on('connection', (socket) => {
    socket.on('error', () => socket.destroy())
    // Whoever says nothing has so long; a WebSocket that is open is not held to it.
    socket.setTimeout(NETWORK.inboundUpgradeMs, () => socket.destroy())
  })
}
