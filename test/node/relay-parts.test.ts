/** The parts of relaying: messages with limits, places, counts by machine, and which addresses a relay may have us announce. */
import { circuitRelayServer } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { Far } from '../../node/network/reach/far.ts'
import { loadCodecs } from '../../node/network/reach/messages.ts'
import { RelayCounts } from '../../node/network/reach/relay-counts.ts'
import { RelayFinder, usableAddresses } from '../../node/network/reach/relay-finder.ts'
import { type Places, tidyPlaces } from '../../node/network/reach/relay-places.ts'
import { RELAY } from '../../protocol/limits.ts'

const newPeer = async () => peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
const ADDRESS = multiaddr('/ip4/5.9.0.2/tcp/4801').bytes
const later = (ms: number): Promise<unknown> =>
  new Promise((resolve) => AbortSignal.timeout(ms).addEventListener('abort', resolve, { once: true }))

describe('messages of relaying', () => {
  it('are refused when they are long or name many addresses, by the codec that the library reads with', async () => {
    const { hop } = await loadCodecs()
    const module = await import(new URL('./pb/index.js', import.meta.resolve('@libp2p/circuit-relay-v2')).href)
    const answer = (count: number, bytes = ADDRESS) =>
      hop.encode({ type: 'STATUS', status: 'OK', reservation: { addrs: new Array<Uint8Array>(count).fill(bytes), expire: 1n } })
    const stop = (count: number): Uint8Array =>
      module.StopMessage.encode({ type: 'CONNECT', peer: { id: Uint8Array.of(1), addrs: new Array(count).fill(ADDRESS) } })
    expect(module.HopMessage.decode(answer(RELAY.addressesReadMax)).reservation.addrs).toHaveLength(RELAY.addressesReadMax)
    expect(() => module.HopMessage.decode(answer(RELAY.addressesReadMax + 1))).toThrow('too many')
    expect(() => hop.decode(answer(RELAY.addressesReadMax + 1))).toThrow('too many')
    expect(() => module.HopMessage.decode(answer(1, new Uint8Array(RELAY.readBytesMax)))).toThrow('limit')
    expect(module.StopMessage.decode(stop(RELAY.addressesReadMax)).peer.addrs).toHaveLength(RELAY.addressesReadMax)
    expect(() => module.StopMessage.decode(stop(RELAY.addressesReadMax + 1))).toThrow('too many')
  })
})

describe('places at a relay', () => {
  /** The library's own store, with little time for each place. */
  function storeOf(reservationTtl: number): Places & { reservationTtl: number } {
    const server = circuitRelayServer({ reservations: { reservationTtl } })({ logger: { forComponent: () => () => {} } } as never) // nothing else is used yet
    return (server as unknown as { reservationStore: Places & { reservationTtl: number } }).reservationStore // a field that it hides
  }

  it.each(['left', 'asked again', 'was stopped'])('the timer of a place does not end the next one of a peer that %s', async (how) => {
    const store = storeOf(30)
    tidyPlaces(store, () => true)
    const peer = await newPeer()
    store.reserve(peer, multiaddr('/ip4/5.9.0.2/tcp/4801'))
    if (how === 'asked again') store.reserve(peer, multiaddr('/ip4/5.9.0.2/tcp/4801'))
    if (how === 'left') store.removeReservation(peer)
    if (how === 'was stopped') store.clear()
    store.reservationTtl = 60_000
    store.reserve(peer, multiaddr('/ip4/5.9.0.2/tcp/4801'))
    await later(80)
    expect(store.get(peer)).not.toBe(undefined)
  })

  it('are not given where there is no room at that moment', async () => {
    const store = storeOf(60_000)
    tidyPlaces(store, () => false)
    const peer = await newPeer()
    expect(store.reserve(peer, multiaddr('/ip4/5.9.0.2/tcp/4801'))).toMatchObject({ status: 'RESERVATION_REFUSED' })
    expect(store.get(peer)).toBe(undefined)
  })
})

describe('what a relay counts', () => {
  const end = (peer: string, host: string | null) => ({ peer, host })

  it('circuits by machine, whatever the peers are called, until each is let go of once', () => {
    const counts = new RelayCounts(() => 1)
    const releases = Array.from({ length: RELAY.circuitsPerHostMax }, (_, i) => counts.take([end(`a${i}`, 'x'), end(`b${i}`, `y${i}`)]))
    expect(counts.isFull([end('new', 'x'), end('c', 'z')])).toBe(true)
    expect(counts.isFull([end('new', 'w'), end('c', 'z')])).toBe(false)
    releases[0]!()
    releases[0]!()
    expect(counts.circuits).toBe(RELAY.circuitsPerHostMax - 1)
    expect(counts.isFull([end('new', 'x'), end('c', 'z')])).toBe(false)
  })

  it('bytes of a day by machine, one that has both ends once, until the day turns', () => {
    let now = 1
    const counts = new RelayCounts(() => now)
    counts.pass([end('a', 'x'), end('b', 'x')], RELAY.bytesPerHostPerDayMax - 1)
    expect(counts.isDayOver([end('new', 'x')])).toBe(false)
    counts.pass([end('c', 'x'), end('d', 'y')], 1)
    expect(counts.isDayOver([end('new', 'x')])).toBe(true)
    expect(counts.isDayOver([end('new', 'z')])).toBe(false)
    now += 86_400_000
    expect(counts.isDayOver([end('new', 'x')])).toBe(false)
    expect([counts.bytesToday, counts.bytesPassed]).toEqual([0, RELAY.bytesPerHostPerDayMax])
  })

  it('of many names those that passed the most', () => {
    const counts = new RelayCounts(() => 1)
    counts.pass([end('much', 'x')], RELAY.bytesPerPeerPerDayMax)
    for (let i = 0; i < RELAY.dayNamesMax; i++) counts.pass([end(`p${i}`, null)], 1)
    expect(counts.isDayOver([end('much', null)])).toBe(true)
  })
})

describe('the addresses of a relay', () => {
  it('are those where we see it, and not the port that it dials from', async () => {
    const relay = await newPeer()
    const whole = (address: string) => multiaddr(`${address}/p2p/${relay.toString()}`)
    const told = ['/ip4/5.9.0.2/tcp/33333', '/ip4/8.8.8.8/tcp/53', '/ip4/5.9.0.2/tcp/4801', '/ip4/192.168.1.1/tcp/80'].map(
      (address) => whole(address).bytes,
    )
    const addresses = [Uint8Array.of(255, 255, 255), multiaddr('/ip4/5.9.0.2/tcp/4802').bytes, ...told]
    const connection = { remotePeer: relay, remoteAddr: whole('/ip4/5.9.0.2/tcp/33333') }
    const usable = (direction: 'inbound' | 'outbound') =>
      usableAddresses(addresses, { ...connection, direction }, new Far(false)).map(String)
    const through = (address: string): string => `${whole(address)}/p2p-circuit`
    expect(usable('inbound')).toEqual([through('/ip4/5.9.0.2/tcp/4801')])
    expect(usable('outbound')).toEqual([through('/ip4/5.9.0.2/tcp/33333'), through('/ip4/5.9.0.2/tcp/4801')])
    const late = [...new Array<Uint8Array>(RELAY.addressesReadMax).fill(ADDRESS), ...told]
    expect(usableAddresses(late, { ...connection, direction: 'inbound' }, new Far(false))).toEqual([])
  })
})

describe('looking for a relay', () => {
  it('ends when the node stops, though the library never answers', async () => {
    const relay = await newPeer()
    const asked = Promise.withResolvers<void>()
    const connection = { remotePeer: relay, remoteAddr: multiaddr('/ip4/5.9.0.2/tcp/4801'), direction: 'outbound' }
    const node = {
      getConnections: () => [connection],
      peerStore: { get: async () => ({ protocols: ['/libp2p/circuit/relay/0.2.0/hop', 'swarm'] }) },
    }
    const reservations = {
      addRelay: () => {
        asked.resolve()
        return new Promise<never>(() => {})
      },
      hasReservation: () => false,
      addEventListener: () => {},
      cancelReservations: () => {},
    }
    const finder = new RelayFinder({
      ...{ node: node as never, reservations, far: new Far(false), swarmProtocol: 'swarm', log: silentLog }, // the part of a node that is used
      find: async function* () {},
      ping: async () => 1,
      onChange: () => {},
    })
    finder.want(1)
    await asked.promise
    await finder.stop()
    expect(finder.relays).toEqual([])
  })
})
