/** Which addresses of peers go from hand to hand. */
import { describe, expect, it } from 'vitest'
import { exchangedFrom, exchangedOf } from '../../node/network/exchanged.ts'
import { dialableAddresses, mayPass, type Seen } from '../../node/network/passing-on.ts'

const PEER = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8'
const inbound = (address: string): Seen => ({ address, isRelayed: false, direction: 'inbound' })
const outbound = (address: string): Seen => ({ address, isRelayed: false, direction: 'outbound' })

describe('where others may dial a peer', () => {
  it('where it says that it listens, on the IP that we see it at; and where we reached it', () => {
    const listens = [
      '/ip4/10.1.2.3/tcp/4801',
      '/ip4/93.184.216.34/tcp/4801',
      '/ip4/8.8.8.8/tcp/4801',
      `/ip4/93.184.216.34/tcp/4802/p2p/${PEER}`,
    ]
    expect(dialableAddresses([inbound('/ip4/93.184.216.34/tcp/50123')], listens)).toEqual([
      '/ip4/93.184.216.34/tcp/4801',
      '/ip4/93.184.216.34/tcp/4802',
    ])
    expect(dialableAddresses([outbound(`/ip4/93.184.216.34/tcp/4900/p2p/${PEER}`)], [])).toEqual(['/ip4/93.184.216.34/tcp/4900'])
    expect(dialableAddresses([inbound('/ip4/93.184.216.34/tcp/50123')], [])).toEqual([])
  })

  it('no names, no relays, no system ports, eight at most', () => {
    const seen = [inbound('/ip4/93.184.216.34/tcp/50123')]
    const odd = [
      '/dns4/example.org/tcp/4801',
      '/ip4/93.184.216.34/udp/4801',
      '/ip4/93.184.216.34/tcp/4801/ws',
      `/ip4/93.184.216.34/tcp/4801/p2p/${PEER}/p2p-circuit`,
      '/ip4/93.184.216.34/tcp/22',
      '/ip4/93.184.216.34/tcp/0',
      'nonsense',
    ]
    expect(dialableAddresses(seen, odd)).toEqual([])
    expect(dialableAddresses(seen, ['/ip4/93.184.216.34/tcp/443'])).toEqual(['/ip4/93.184.216.34/tcp/443'])
    expect(dialableAddresses([{ ...outbound('/ip4/93.184.216.34/tcp/4801'), isRelayed: true }], [])).toEqual([])
    const many = Array.from({ length: 30 }, (_, i) => `/ip4/93.184.216.34/tcp/${5000 + i}`)
    expect(dialableAddresses(seen, many)).toHaveLength(8)
  })
})

describe('what may be told to whom', () => {
  const publicOne = '/ip4/93.184.216.34/tcp/4801'
  const privateOnes = [
    '/ip4/10.0.0.7/tcp/4801',
    '/ip4/192.168.1.2/tcp/4801',
    '/ip4/172.16.0.1/tcp/4801',
    '/ip6/fd00::1/tcp/4801',
    '/ip6/fe80::1/tcp/4801',
  ]
  const loopbacks = ['/ip4/127.0.0.1/tcp/4801', '/ip6/::1/tcp/4801', '/ip6/::ffff:127.0.0.1/tcp/4801']

  it('public addresses to everybody, private ones to no peer at a public address', () => {
    for (const to of [publicOne, ...privateOnes, ...loopbacks]) expect(mayPass(publicOne, to, false)).toBe(true)
    for (const address of privateOnes) {
      expect(mayPass(address, publicOne, false)).toBe(false)
      expect(mayPass(address, publicOne, true)).toBe(false)
      expect(mayPass(address, '/ip4/10.0.0.9/tcp/50123', false)).toBe(true)
      expect(mayPass(address, `${publicOne}/p2p/${PEER}/p2p-circuit`, true)).toBe(false)
    }
  })

  it('loopback only on this machine, on a separate network', () => {
    for (const address of loopbacks) {
      expect(mayPass(address, '/ip4/127.0.0.1/tcp/50123', true)).toBe(true)
      expect(mayPass(address, '/ip4/127.0.0.1/tcp/50123', false)).toBe(false)
      expect(mayPass(address, '/ip4/10.0.0.9/tcp/50123', true)).toBe(false)
      expect(mayPass(address, publicOne, true)).toBe(false)
    }
  })

  it('nothing that is no IP and TCP port, and no system port', () => {
    for (const address of ['/dns4/example.org/tcp/4801', '/ip4/93.184.216.34/tcp/25', '/ip4/93.184.216.34/udp/4801', '', 'x'])
      expect(mayPass(address, publicOne, true)).toBe(false)
  })
})

describe('peers on the wire', () => {
  it('come back as they went; what does not parse is left out', () => {
    const peers = [{ peerId: PEER, addresses: ['/ip4/93.184.216.34/tcp/4801', '/ip6/2600::1/tcp/4801'] }]
    expect(exchangedFrom(exchangedOf(peers))).toEqual(peers)
    expect(exchangedOf([{ peerId: PEER, addresses: [] }])).toEqual([])
    const [sent] = exchangedOf(peers)
    const junk = Uint8Array.of(1, 2, 3)
    expect(
      exchangedFrom([
        { id: junk, addresses: sent!.addresses },
        { id: sent!.id, addresses: [junk, sent!.addresses[0]!] },
      ]),
    ).toEqual([{ peerId: PEER, addresses: ['/ip4/93.184.216.34/tcp/4801'] }])
  })
})
