/**
 * The libp2p node with every limit given by name: transports, encryption, muxer, services. Their factories are imported here, and those of
 * transports in transports.ts.
 *
 * No default of a library is trusted where strangers are on the other side. stack.ts is the only caller.
 */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify, identifyPush } from '@libp2p/identify'
import type { Libp2p, PrivateKey } from '@libp2p/interface'
import type { KadDHT } from '@libp2p/kad-dht'
import { mdns } from '@libp2p/mdns'
import { type Ping, ping } from '@libp2p/ping'
import type { Datastore } from 'interface-datastore'
import { createLibp2p } from 'libp2p'
import type { Hit } from '../../protocol/limit-table.ts'
import { NETWORK, RELAY, WAITS } from '../../protocol/limits.ts'
import type { ConnectionLimits } from './connection-limits.ts'
import type { DhtSet } from './dht.ts'
import type { DialBudget } from './dial-budget.ts'
import { nearestFirst } from './dial-order.ts'
import { FairReads } from './fair-reads.ts'
import type { Gater } from './gater.ts'
import { boundFrames } from './muxer-frames.ts'
import { NetworkError } from './network-error.ts'
import { guardNewStreams } from './new-streams.ts'
import { noiseCrypto } from './noise-crypto.ts'
import type { OwnHosts } from './own-hosts.ts'
import type { NetworkPlan } from './plan.ts'
import type { Reachability } from './reach/reachability.ts'
import type { Reservations } from './reach/relay-finder.ts'
import { guardedTcp, guardedWebSockets } from './transports.ts'

export interface NodeInit {
  privateKey: PrivateKey
  plan: NetworkPlan
  listen: string[]
  mdns: boolean
  datastore: Datastore
  budget: DialBudget
  gater: Gater
  dhts: DhtSet
  limits: ConnectionLimits
  reach: Reachability
  hosts: OwnHosts
  /** Over all addresses to listen on; null: as many as come. */
  socketsMax: number | null
  /** Host that sockets go out from; null: whichever the system takes. */
  dialFrom: string | null
  hit: Hit
}

/** Builds the node, not started. */
export async function createNode(init: NodeInit): Promise<Libp2p<{ ping: Ping }>> {
  const { plan, dhts, listen, socketsMax, dialFrom } = init
  const socketsPerAddress = socketsMax === null ? null : Math.ceil(socketsMax / Math.max(1, listen.length))
  const reads = new FairReads(NETWORK.readBytesPerTurn)
  const guards = { budget: init.budget, reads, hosts: init.hosts, socketsMax: socketsPerAddress, dialFrom }
  const dhtServices = Object.fromEntries(plan.dhts.map((dht) => [`dht-${dht.name}`, dhts.factory(dht)]))
  const identifyLimits = { maxInboundStreams: 1, maxMessageSize: 8192, timeout: 5_000 }
  return createLibp2p({
    start: false,
    privateKey: init.privateKey,
    nodeInfo: { userAgent: 'shoal' },
    datastore: init.datastore,
    addresses: { listen: init.listen },
    transports: [guardedTcp(guards), guardedWebSockets(guards), overRelays(init.reach)],
    connectionEncrypters: [noise({ crypto: noiseCrypto })],
    streamMuxers: [
      boundFrames(
        guardNewStreams(
          yamux({
            maxInboundStreams: NETWORK.inboundStreamsPerConnectionMax,
            streamOptions: { maxStreamWindowSize: NETWORK.windowBytesMax, maxReadBufferLength: NETWORK.readBufferBytesMax },
          }),
        ),
        () => init.hit('windowBytes'),
      ),
    ],
    connectionGater: init.gater.hooks,
    // Its ping waits behind a window of blocks and would end every slow upload; sessions watch their own liveness.
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxConnections: init.limits.max,
      maxIncomingPendingConnections: NETWORK.pendingInboundMax + NETWORK.pendingClosingMax,
      inboundUpgradeTimeout: NETWORK.inboundUpgradeMs,
      inboundConnectionThreshold: NETWORK.inboundPerHostPerSecondMax,
      inboundStreamProtocolNegotiationTimeout: NETWORK.inboundUpgradeMs,
      outboundStreamProtocolNegotiationTimeout: WAITS.helloMs,
      dialTimeout: WAITS.dialMs,
      addressSorter: nearestFirst,
      maxParallelDials: 50,
      maxDialQueueLength: 500,
    },
    peerStore: { maxAddressAge: NETWORK.providerValidityMs, maxPeerAge: NETWORK.providerValidityMs },
    ...(init.mdns ? { peerDiscovery: [mdns({ serviceTag: plan.mdnsTag })] } : {}),
    services: {
      connectionLimits: init.limits.service,
      identify: identify(identifyLimits),
      identifyPush: identifyPush(identifyLimits),
      ping: ping({ maxInboundStreams: 1 }),
      reach: (components) => {
        init.reach.attach(components, circuitRelayServer(RELAY_SERVER)(components))
        return {}
      },
      ...(dhtServices as Record<string, ReturnType<typeof dhts.factory> & ((components: never) => KadDHT)>),
    },
  }) as Promise<Libp2p<{ ping: Ping }>>
}

/** Started when anybody can reach this node, and not before. Limits of a circuit are told and held to by relay-service.ts. */
const RELAY_SERVER = {
  maxInboundHopStreams: RELAY.circuitsPerPeerMax,
  maxOutboundHopStreams: RELAY.circuitsPerPeerMax,
  maxOutboundStopStreams: RELAY.circuitsPerPeerMax,
  hopTimeout: RELAY.messageMs,
  reservations: { maxReservations: RELAY.peersMax, reservationTtl: RELAY.reservationMs, applyDefaultLimit: false },
}

/** Connections through relays: to anybody, and from where this node has a place. The library would take a place wherever a stranger asks. */
function overRelays(reach: Reachability): ReturnType<typeof circuitRelayTransport> {
  return (components) => {
    const registrar = new Proxy(components.registrar, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target)
        if (name !== 'handle') return typeof value === 'function' ? value.bind(target) : value
        const handle: typeof target.handle = (protocol, handler, options) => {
          const guarded: typeof handler = (stream, connection) => {
            if (!reach.isOurRelay(connection.remotePeer)) throw new NetworkError('REFUSED', 'not a relay of ours')
            return handler(stream, connection)
          }
          return target.handle(protocol, guarded, options)
        }
        return handle
      },
    })
    const guarded = new Proxy(components, { get: (target, name) => (name === 'registrar' ? registrar : Reflect.get(target, name, target)) })
    const transport = circuitRelayTransport({ maxInboundStopStreams: RELAY.circuitsMax, maxOutboundStopStreams: RELAY.circuitsMax })(
      guarded,
    )
    reach.useTransport((transport as unknown as { reservationStore: Reservations }).reservationStore) // a public field of a class that is not exported
    return transport
  }
}
