/** Connections that come in and are not upgraded yet: how many, of whom, and in what order they are served. No sockets, fake timers. */
import { EventEmitter } from 'node:events'
import type { MultiaddrConnection } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Arrivals } from '../../node/network/arrivals.ts'
import { ConnectionLimits } from '../../node/network/connection-limits.ts'
import { DialBudget } from '../../node/network/dial-budget.ts'
import { Gater } from '../../node/network/gater.ts'
import type { LimitName } from '../../protocol/limit-table.ts'
import { NETWORK } from '../../protocol/limits.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

/** As much of a connection as is read: it says something when told to. */
class Caller extends EventTarget {
  readonly socket = Object.assign(new EventEmitter(), { bytesRead: 0 })
  readonly remoteAddr
  status = 'open'
  isRefused: boolean | undefined

  constructor(host: string) {
    super()
    this.remoteAddr = multiaddr(`/ip4/${host}/tcp/50000`)
  }

  speak(): void {
    this.socket.bytesRead = 1
    this.socket.emit('data', Buffer.of(1))
  }

  abort(): void {
    this.status = 'aborted'
    this.dispatchEvent(new Event('close'))
  }

  get connection(): MultiaddrConnection {
    return this as unknown as MultiaddrConnection // a stand-in
  }
}

const create = (): { arrivals: Arrivals; hits: LimitName[]; arrive: (host: string) => Caller } => {
  const hits: LimitName[] = []
  const arrivals = new Arrivals({ now: () => performance.now(), groupPrivate: false, hit: (name) => hits.push(name) })
  const arrive = (host: string): Caller => {
    const caller = new Caller(host)
    void arrivals.refuses(caller.connection).then((isRefused) => {
      caller.isRefused = isRefused
    })
    return caller
  }
  return { arrivals, hits, arrive }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const hostOf = (i: number): string => `5.${i >> 8}.${i & 255}.1`

describe('the door', () => {
  test('lets eight unfinished connections of one host in, and the next when one of them is done', async () => {
    const budget = new DialBudget({ now: () => 0, groupPrivate: false, anyAddress: true, ownSubnets: () => [] })
    const gater = new Gater({ now: () => 0, groupPrivate: false, isEd25519Only: true, budget })
    const arrive = async (): Promise<[Caller, boolean]> => {
      const caller = new Caller('5.6.7.8')
      caller.speak()
      return [caller, (await gater.hooks.denyInboundConnection?.(caller.connection)) === true]
    }
    const callers: [Caller, boolean][] = []
    for (let i = 0; i < 9; i++) callers.push(await arrive())
    expect(callers.map(([, isRefused]) => isRefused)).toEqual([...new Array(8).fill(false), true])
    callers[0]![0].abort()
    callers[0]![0].dispatchEvent(new Event('close'))
    expect([(await arrive())[1], (await arrive())[1]]).toEqual([false, true])
  })

  test('makes room for a newcomer by closing whoever has waited longest', async () => {
    const { arrivals, hits, arrive } = create()
    const silent = Array.from({ length: NETWORK.pendingInboundMax + 50 }, (_, i) => arrive(hostOf(i)))
    expect(silent.filter(({ status }) => status !== 'open')).toEqual(silent.slice(0, 50))
    expect(arrivals.pending).toBe(NETWORK.pendingInboundMax)
    expect(hits).toEqual(new Array(50).fill('pendingInbound'))
    const honest = arrive('9.9.9.9')
    honest.speak()
    await settled()
    expect(honest.isRefused).toBe(false)
  })

  test('gives turns to those that have spoken, however many say nothing', async () => {
    const { hits, arrive } = create()
    const silent = Array.from({ length: 400 }, (_, i) => arrive(hostOf(i)))
    const honest = Array.from({ length: NETWORK.handshakesAtOnceMax }, (_, i) => arrive(hostOf(1_000 + i)))
    for (const caller of honest) caller.speak()
    await settled()
    expect(honest.map(({ isRefused }) => isRefused)).toEqual(honest.map(() => false))
    expect(silent.filter(({ isRefused }) => isRefused !== undefined)).toEqual([])
    expect(hits).toEqual([])
  })

  test('upgrades no more a second than the limit, the newest first, and none that is gone', async () => {
    const { hits, arrive } = create()
    const callers = Array.from({ length: 400 }, (_, i) => arrive(hostOf(i)))
    for (const caller of callers) caller.speak()
    await settled()
    const served = (): number => callers.filter(({ isRefused }) => isRefused === false).length
    expect(served()).toBe(NETWORK.handshakesAtOnceMax)
    expect(hits.every((name) => name === 'handshakes')).toBe(true)
    callers[399]!.abort()
    await vi.advanceTimersByTimeAsync(100)
    await settled()
    expect(served()).toBeGreaterThanOrEqual(NETWORK.handshakesAtOnceMax + 8)
    expect(served()).toBeLessThanOrEqual(NETWORK.handshakesAtOnceMax + 10)
    expect([callers[399]!.isRefused, callers[398]!.isRefused, callers[150]!.isRefused]).toEqual([true, false, undefined])
    await vi.advanceTimersByTimeAsync(1_000)
    await settled()
    expect(served()).toBeLessThanOrEqual(NETWORK.handshakesAtOnceMax + (1_100 * NETWORK.handshakesPerSecond) / 1_000)
  })
})

describe('the places', () => {
  /** The limits around a stand-in for libp2p's manager, which lets everybody in. */
  const limited = (
    max: number,
  ): { hits: LimitName[]; accept: (caller?: Caller) => boolean; connections: { direction: 'inbound' | 'outbound' }[] } => {
    const hits: LimitName[] = []
    const connections: { direction: 'inbound' | 'outbound' }[] = []
    const manager = {
      getConnections: () => connections,
      setMaxConnections: () => {},
      incomingPendingConnections: 0,
      acceptIncomingConnection: (_: MultiaddrConnection): boolean => true,
    }
    const limits = new ConnectionLimits({ groupPrivate: false, hit: (name) => hits.push(name) })
    limits.service({ connectionManager: manager })
    limits.setMax(max)
    const accept = (caller = new Caller('127.0.0.1')): boolean => {
      const isIn = manager.acceptIncomingConnection(caller.connection)
      manager.incomingPendingConnections = 0 // upgraded
      if (isIn) connections.push({ direction: 'inbound' })
      return isIn
    }
    return { hits, accept, connections }
  }

  test('are not all for those who dial us: a quarter is left to those whom we dial', () => {
    const { hits, accept, connections } = limited(100)
    for (let i = 0; i < 200; i++) accept()
    expect(connections).toHaveLength(75)
    expect(hits).toHaveLength(125)
    expect(new Set(hits)).toEqual(new Set(['connections']))
  })

  test('that our own dials take beyond their part leave fewer to others', () => {
    const { accept, connections } = limited(100)
    for (let i = 0; i < 60; i++) connections.push({ direction: 'outbound' })
    for (let i = 0; i < 200; i++) accept()
    expect(connections).toHaveLength(100)
  })
  test('are not all for one neighbourhood: 32 of them, and one more when one of these is closed', () => {
    const { hits, accept } = limited(1_000)
    const near = Array.from({ length: NETWORK.inboundPerSubnetMax + 1 }, (_, i) => new Caller(`5.6.7.${i}`))
    expect(near.map(accept)).toEqual([...new Array(NETWORK.inboundPerSubnetMax).fill(true), false])
    expect(hits).toEqual(['inboundPerSubnet'])
    expect(accept(new Caller('5.6.8.1'))).toBe(true)
    near[0]!.abort()
    expect([accept(new Caller('5.6.7.1')), accept(new Caller('5.6.7.1'))]).toEqual([true, false])
  })

  test('of the local network are not counted by neighbourhood', () => {
    const { hits, accept } = limited(1_000)
    for (let i = 0; i < 100; i++) for (const host of ['127.0.0.1', '192.168.1.7']) expect(accept(new Caller(host))).toBe(true)
    expect(hits).toEqual([])
  })
})
