/** A relay that many ask at once: what it may pass on holds while it waits for others. */
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { expect, it } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { type HopMessage, loadCodecs } from '../../node/network/reach/messages.ts'
import { RelayService } from '../../node/network/reach/relay-service.ts'
import { RELAY } from '../../protocol/limits.ts'

const newPeer = async () => peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
const codecs = await loadCodecs()
const signal = AbortSignal.timeout(60_000)

/** A relay with a place for `target`, whose answers the test gives. */
async function startRelay() {
  const [target, source] = [await newPeer(), await newPeer()]
  const at = (remotePeer: PeerId, host: string) =>
    ({ remotePeer, remoteAddr: multiaddr(`/ip4/${host}/tcp/4801`), limits: undefined }) as unknown as Connection // the part that is used
  const there = at(target, '5.9.0.2')
  const asked: ((stream: Stream | undefined) => void)[] = []
  const place = { signal: { clear: () => {} } }
  const server = {
    ...{ onHop: async () => {}, handleHopProtocol: async () => {}, handleConnect: async (..._: unknown[]) => {} },
    stopHop: () => new Promise<Stream | undefined>((resolve) => asked.push(resolve)),
    ...{ start: async () => {}, stop: async () => {}, reservations: new Map() },
    reservationStore: {
      ...{ get: (peer: PeerId) => (peer.equals(target) ? place : undefined), reserve: () => {}, removeReservation: () => {} },
      ...{ clear: () => {}, reservations: new Map() },
    },
  }
  const components = {
    connectionManager: { getConnections: (peer: PeerId) => (peer.equals(target) ? [there] : []) },
    peerStore: { get: async () => ({ protocols: ['swarm'], metadata: new Map() }) },
  }
  const service = new RelayService({
    ...{ components: components as never, server: server as never, codecs, swarmProtocol: 'swarm', log: silentLog }, // the parts that are used
    ...{ hit: () => {}, now: () => performance.now() },
  })
  await service.turn(true)
  const statuses: (string | undefined)[] = []
  const connect = async (write: (message: HopMessage) => void = () => {}): Promise<void> => {
    const request = { type: 'CONNECT', peer: { id: target.toMultihash().bytes, addrs: [] } }
    const hop = {
      write: async (message: HopMessage) => {
        statuses.push(message.status)
        write(message)
      },
    }
    await server.handleConnect({ connection: at(source, '8.8.8.8'), request, stream: { pb: () => hop, unwrap: () => ({}) } }, { signal })
  }
  return { service, connect, asked, statuses }
}

it('a relay passes on no more than it may, however many ask before any of them is answered', async () => {
  const { service, connect, asked, statuses } = await startRelay()
  const asking = Array.from({ length: RELAY.circuitsPerPeerMax + 3 }, () => connect())
  await expect.poll(() => statuses).toEqual(new Array(3).fill('RESOURCE_LIMIT_EXCEEDED'))
  expect(asked).toHaveLength(RELAY.circuitsPerPeerMax)
  for (const answer of asked) answer(undefined)
  await Promise.all(asking)
  expect(statuses.slice(3)).toEqual(new Array(RELAY.circuitsPerPeerMax).fill('CONNECTION_FAILED'))
  expect(service.status()?.circuits).toBe(0)
})

it('a relay that cannot tell the one who asked lets go of the other, and of the place', async () => {
  const { service, connect, asked } = await startRelay()
  const asking = connect(() => {
    throw new Error('gone')
  })
  await expect.poll(() => asked.length).toBe(1)
  let aborted = 0
  asked[0]!({ abort: () => aborted++ } as unknown as Stream)
  await expect(asking).rejects.toThrow('gone')
  expect([aborted, service.status()?.circuits]).toEqual([1, 0])
})
