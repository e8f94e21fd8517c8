/** The driver of the contacts machine on a stack that only remembers, and what a link tells in parting. */
import { createHash, createHmac } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Dialling, type DiallingParts } from '../../node/jobs/dialling.ts'
import type { LiveShare } from '../../node/jobs/live-share.ts'
import { NOBODY } from '../../node/jobs/nobody.ts'
import { Rates } from '../../node/jobs/rates.ts'
import { silentLog } from '../../node/log.ts'
import { exchangedFrom, exchangedOf } from '../../node/network/exchanged.ts'
import { NetworkError } from '../../node/network/network-error.ts'
import { mayPass } from '../../node/network/passing-on.ts'
import { PeerLink } from '../../node/network/peer-link.ts'
import type { Remote } from '../../node/network/remote.ts'
import { createIdentity, type FoundPeer, peerIdOf, type Stack } from '../../node/network/stack.ts'
import { RAW } from '../../protocol/cid.ts'
import { CONTACTS, SWARM, WIRE } from '../../protocol/limits.ts'
import type { Primitives } from '../../protocol/primitives.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import type { ExchangedPeer } from '../../protocol/wire/messages.ts'
import { channelPair } from './channel-pair.ts'

const names = await Promise.all(Array.from({ length: SWARM.peersPerShareMax + 4 }, async () => peerIdOf(await createIdentity()).text))
const [self, ...strangers] = names as [string, ...string[]]

const PUBLIC = '/ip4/93.184.216.34/tcp/4801'
const PRIVATE = '/ip4/10.0.0.7/tcp/4801'

interface FakeLink {
  link: PeerLink
  sent: FoundPeer[][]
}

/** A link that only remembers what it was told to tell. */
function linkTo(peerId: string, init: Partial<Remote> & { isDiscreet?: boolean } = {}): FakeLink {
  const { isDiscreet = false, ...seen } = init
  const sent: FoundPeer[][] = []
  const remote: Remote = { peerId, peerIdBytes: new Uint8Array(38), address: PUBLIC, isRelayed: false, direction: 'inbound', ...seen }
  const stats = { bytesIn: 0, bytesOut: 0, openedMs: 0, verifiedBlocks: 0 }
  const sendPeers = (peers: ExchangedPeer[]): number => sent.push(exchangedFrom(peers))
  return { link: { remote, stats, peerIsDiscreet: isDiscreet, sendPeers } as unknown as PeerLink, sent } // the driver uses nothing else
}

function setUp(options: Partial<DiallingParts> & { dialable?: (peerId: string) => string[]; answer?: () => Error } = {}) {
  const { dialable = () => [PUBLIC], answer = () => new NetworkError('UNREACHABLE', 'nobody there'), ...parts } = options
  const dialled: FoundPeer[] = []
  const trusted: FoundPeer[] = []
  const wants: boolean[] = []
  const tasks: Promise<void>[] = []
  const stack = {
    peerId: self,
    peerIdBytes: new Uint8Array(38),
    dialableAddresses: dialable,
    mayPass: (address: string, seenAt: string) => mayPass(address, seenAt, false),
    trustAddresses: (peer: FoundPeer) => trusted.push(peer),
    openSwarm: async (target: FoundPeer) => {
      dialled.push(target)
      throw answer()
    },
  } as unknown as Stack // the driver uses nothing else
  const share = {
    cid: { text: 'c', codec: RAW, digest: new Uint8Array(32) } as const,
    rendezvous: new Uint8Array(32),
    live: null,
    linking: 0,
  }
  const dialling = new Dialling(share, {
    stack,
    linkInit: () => {
      throw new Error('no dial comes so far')
    },
    log: silentLog,
    now: () => Date.now(),
    isExchanging: true,
    isBanned: () => false,
    load: () => Promise.resolve({} as LiveShare),
    onLink: () => {},
    onIdle: () => {},
    onWant: (isWanting) => wants.push(isWanting),
    track: (task) => tasks.push(task),
    signal: new AbortController().signal,
    ...parts,
  })
  return { dialling, dialled, trusted, wants, share, settle: () => Promise.all(tasks.splice(0)) }
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('dialling', () => {
  it('dials while something is wanted, and again as the machine says', async () => {
    const { dialling, dialled, trusted, wants, share, settle } = setUp()
    dialling.found({ peerId: strangers[0]!, addresses: [PUBLIC] }, 'given')
    dialling.found({ peerId: self, addresses: [PUBLIC] }, 'given')
    expect([dialled, trusted]).toEqual([[], [{ peerId: strangers[0], addresses: [PUBLIC] }]])
    dialling.want(true)
    expect(dialling.count).toBe(1)
    await settle()
    expect([dialling.count, share.linking, wants]).toEqual([0, 0, [true]])
    await vi.advanceTimersByTimeAsync(1_000)
    await settle()
    await vi.advanceTimersByTimeAsync(2_000)
    await settle()
    expect(dialled).toHaveLength(3)
    dialling.want(false)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(dialled).toHaveLength(3)
    expect(wants).toEqual([true, false])
    dialling.stop()
  })

  it('leaves those alone that are banned or do not know the share', async () => {
    const banned = setUp({ isBanned: () => true })
    const ignorant = setUp({ answer: () => new NetworkError('UNKNOWN_SHARE', 'not here') })
    for (const { dialling, settle } of [banned, ignorant]) {
      dialling.want(true)
      dialling.found({ peerId: strangers[0]!, addresses: [PUBLIC] }, 'dht')
      await settle()
      await vi.advanceTimersByTimeAsync(120_000)
      dialling.stop()
    }
    expect([banned.dialled.length, ignorant.dialled.length]).toEqual([0, 1])
  })

  it('tells neighbours of each other: no private address to the public, nobody who does not want it', async () => {
    const addresses = new Map([
      [strangers[0]!, [PUBLIC]],
      [strangers[1]!, [PRIVATE]],
      [strangers[2]!, ['/ip4/8.8.8.8/tcp/4801']],
    ])
    const { dialling } = setUp({ dialable: (peerId) => addresses.get(peerId) ?? [] })
    const [a, b, discreet, d] = [
      linkTo(strangers[0]!),
      linkTo(strangers[1]!, { address: PRIVATE }),
      linkTo(strangers[2]!, { isDiscreet: true }),
      linkTo(strangers[3]!),
    ]
    for (const { link } of [a, b, discreet, d]) dialling.joined(link)
    await vi.advanceTimersByTimeAsync(CONTACTS.gatherMs)
    const toldOf = ({ sent }: FakeLink): string[] => sent.flat().map(({ peerId }) => peerId)
    expect(toldOf(a)).toEqual([]) // what there is to tell is private
    expect(toldOf(b)).toEqual([strangers[0]])
    expect(toldOf(d)).toEqual([strangers[0]])
    // Now it is known where the fourth listens: others hear of it, those that were told before after a minute.
    addresses.set(strangers[3]!, ['/ip4/8.8.4.4/tcp/4801'])
    dialling.listens(strangers[3]!)
    await vi.advanceTimersByTimeAsync(61_000)
    expect([a, b].map((to) => toldOf(to).includes(strangers[3]!))).toEqual([true, true])
    dialling.stop()
  })

  it('tries what neighbours tell, but nothing private from the public', async () => {
    const { dialling, dialled, settle } = setUp()
    const teller = linkTo(strangers[0]!)
    dialling.joined(teller.link)
    dialling.want(true)
    const told = [
      { peerId: strangers[1]!, addresses: [PRIVATE] },
      { peerId: strangers[2]!, addresses: [PRIVATE, '/ip4/8.8.8.8/tcp/22', '/ip4/8.8.8.8/tcp/4801'] },
      { peerId: self, addresses: [PUBLIC] },
    ]
    dialling.told(teller.link, exchangedOf(told))
    await settle()
    expect(dialled).toEqual([{ peerId: strangers[2], addresses: ['/ip4/8.8.8.8/tcp/4801'] }])
    expect(dialling.sourceOf(strangers[2]!)).toBe('exchange')
    dialling.stop()
  })

  it('neither tells nor tries anything where exchange is off', async () => {
    const { dialling, dialled, settle } = setUp({ isExchanging: false })
    const links = strangers.slice(0, 3).map((peerId) => linkTo(peerId))
    for (const { link } of links) dialling.joined(link)
    dialling.want(true)
    dialling.told(links[0]!.link, exchangedOf([{ peerId: strangers[5]!, addresses: [PUBLIC] }]))
    await vi.advanceTimersByTimeAsync(120_000)
    await settle()
    expect([links.flatMap(({ sent }) => sent), dialled]).toEqual([[], []])
    expect(dialling.refused(linkTo(strangers[6]!).link, true)).toEqual([])
    dialling.stop()
  })

  it('has forty neighbours at most, and names others to whoever comes then', () => {
    const { dialling } = setUp()
    for (const peerId of strangers.slice(0, SWARM.peersPerShareMax)) dialling.joined(linkTo(peerId).link)
    expect(dialling.hasRoom).toBe(false)
    const late = linkTo(strangers.at(-1)!)
    const others = exchangedFrom(dialling.refused(late.link, true))
    expect(others).toHaveLength(SWARM.peersPerShareMax)
    expect(others.map(({ peerId }) => peerId)).not.toContain(strangers.at(-1))
    expect(dialling.refused(late.link, false)).toEqual([])
    dialling.stop()
  })

  it('takes the end of a link that was replaced for what it is', async () => {
    const { dialling, dialled, settle } = setUp()
    const [old, fresh] = [linkTo(strangers[0]!), linkTo(strangers[0]!)]
    dialling.want(true)
    dialling.joined(old.link)
    dialling.joined(fresh.link)
    dialling.left(old.link)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(dialled).toEqual([]) // still connected
    fresh.link.stats.verifiedBlocks = 1
    dialling.left(fresh.link)
    await vi.advanceTimersByTimeAsync(1_000)
    await settle()
    expect(dialled.map(({ peerId }) => peerId)).toEqual([strangers[0]])
    dialling.stop()
  })
})

describe('a link that is not taken', () => {
  it('tells the peer of others before it goes', async () => {
    vi.useRealTimers()
    const primitives = {
      hmac: (key: Uint8Array, bytes: Uint8Array) => Uint8Array.from(createHmac('sha256', key).update(bytes).digest()),
    } as Primitives // the hello needs nothing else
    const digest = (text: string): Uint8Array => Uint8Array.from(createHash('sha256').update(text).digest())
    const rootMultihash = Uint8Array.of(0x12, 0x20, ...digest('root'))
    const [near, far] = channelPair()
    const [alice, bob] = [new Uint8Array(38).fill(1), new Uint8Array(38).fill(2)]
    const common = { primitives, budget: new CreditBudget(WIRE.creditBytesTotal) }
    const signal = new AbortController().signal
    const remote = (peerIdBytes: Uint8Array, direction: Remote['direction']): Remote => ({
      peerId: strangers[0]!,
      peerIdBytes,
      address: PUBLIC,
      isRelayed: false,
      direction,
    })
    const [dialler, accepted] = await Promise.all([
      PeerLink.connect({
        ...common,
        frames: near,
        remote: remote(bob, 'outbound'),
        self: alice,
        rootMultihash,
        rendezvous: digest('name'),
        knowsShape: false,
        signal,
      }),
      PeerLink.accept({
        ...common,
        frames: far,
        remote: remote(alice, 'inbound'),
        self: bob,
        isDiscreet: true,
        lookup: () => ({ rootMultihash, knowsShape: false }),
        signal,
      }),
    ])
    expect([dialler.peerIsDiscreet, accepted!.link.peerIsDiscreet]).toEqual([true, false])
    const told: FoundPeer[][] = []
    const running = dialler.run({ ...NOBODY, onPeers: (_link, peers) => void told.push(exchangedFrom(peers)) }, signal)
    const others = [{ peerId: strangers[1]!, addresses: [PUBLIC] }]
    void accepted!.link.goodbye(0, exchangedOf(others))
    await accepted!.link.run(NOBODY, signal)
    expect(await running).toMatchObject({ code: 'NORMAL', strike: 'none' })
    expect(told).toEqual([others])
  })
})

describe('rates', () => {
  it('are those of the last five seconds', () => {
    const rates = new Rates()
    const link = { stats: { bytesIn: 0, bytesOut: 0 } }
    expect(rates.of(link, 0)).toEqual({ inBytesPerSecond: 0, outBytesPerSecond: 0 })
    for (let second = 0; second <= 20; second++) {
      link.stats.bytesIn += second <= 10 ? 1_000 : 0
      link.stats.bytesOut += 50
      rates.sample([link], second * 1_000)
      if (second === 10) expect(rates.of(link, 10_000)).toEqual({ inBytesPerSecond: 1_000, outBytesPerSecond: 50 })
    }
    expect(rates.of(link, 20_000)).toEqual({ inBytesPerSecond: 0, outBytesPerSecond: 50 })
  })
})
