/** Connections that lead nowhere any more: noticed, asked, ended. */
import { EventEmitter } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { MemoryDatastore } from 'datastore-core'
import { afterEach, describe, expect, it } from 'vitest'
import { type Link, Liveness } from '../../node/jobs/liveness.ts'
import { replaces } from '../../node/jobs/seats.ts'
import { silentLog } from '../../node/log.ts'
import { OwnHosts, type OwnSocket } from '../../node/network/own-hosts.ts'
import type { PeerLink } from '../../node/network/peer-link.ts'
import type { Remote } from '../../node/network/remote.ts'
import { createIdentity, createStack, type Stack } from '../../node/network/stack.ts'
import { LIVENESS } from '../../protocol/limits.ts'
import { portOf } from '../kit/proxy.ts'

const remoteOf = (peerId: string): Remote => ({
  ...{ peerId, peerIdBytes: new TextEncoder().encode(peerId), address: '/ip4/5.9.0.2/tcp/1', isRelayed: false, direction: 'outbound' },
})

const owing = (remote: Remote): Link => ({ remote, isAsked: true })

function watch() {
  let now = 0
  const asked: string[] = []
  const heard: (() => boolean)[] = []
  const waiting: ((ended: number) => void)[] = []
  const tasks: Promise<void>[] = []
  const liveness = new Liveness({
    now: () => now,
    endDead: (peerId, isHeard) => {
      asked.push(peerId)
      heard.push(isHeard)
      return new Promise((resolve) => waiting.push(resolve))
    },
    track: (task) => void tasks.push(task),
    log: silentLog,
  })
  const answer = async (ended: number): Promise<void> => {
    waiting.shift()?.(ended)
    await Promise.all(tasks.splice(0, waiting.length === 0 ? tasks.length : 0))
  }
  const at = (ms: number): void => {
    now = ms
  }
  return { liveness, asked, heard, answer, at }
}

describe('a peer of which something is wanted', () => {
  it('is asked when not a byte came for a while, once at a time, and again only after as long', async () => {
    const { liveness, asked, answer, at } = watch()
    const [a, stream] = [remoteOf('a'), { arrivedMs: 0 }]
    liveness.follow(a, stream)
    at(LIVENESS.silentMs - 1)
    liveness.look([owing(a)])
    expect(asked).toEqual([])
    at(LIVENESS.silentMs)
    liveness.look([owing(a)])
    liveness.look([owing(a)])
    expect(asked).toEqual(['a'])
    await answer(0)
    at(2 * LIVENESS.silentMs - 1)
    liveness.look([owing(a)])
    expect(asked).toEqual(['a'])
    at(2 * LIVENESS.silentMs)
    liveness.look([owing(a)])
    expect(asked).toEqual(['a', 'a'])
  })

  it('is asked less often while it owes nothing on any of its links', () => {
    const { liveness, asked, at } = watch()
    const [a, b] = [remoteOf('a'), remoteOf('b')]
    for (const remote of [a, b]) liveness.follow(remote, { arrivedMs: 0 })
    at(LIVENESS.idleSilentMs - 1)
    liveness.look([{ remote: a, isAsked: false }, owing(b)])
    expect(asked).toEqual(['b'])
    at(LIVENESS.idleSilentMs)
    liveness.look([{ remote: a, isAsked: false }, owing(b)])
    expect(asked).toEqual(['b', 'a'])
  })

  it('has answered when bytes came after it was asked, whatever they were', () => {
    const { liveness, heard, at } = watch()
    const [a, stream] = [remoteOf('a'), { arrivedMs: 0 }]
    liveness.follow(a, stream)
    at(LIVENESS.silentMs)
    liveness.look([owing(a)])
    expect(heard.map((isHeard) => isHeard())).toEqual([false])
    stream.arrivedMs = LIVENESS.silentMs + 1
    expect(heard.map((isHeard) => isHeard())).toEqual([true])
  })

  it('is not asked as long as bytes come over any of its links', () => {
    const { liveness, asked, at } = watch()
    const links = [remoteOf('a'), remoteOf('a')]
    const streams = [{ arrivedMs: 0 }, { arrivedMs: 0 }]
    for (const [i, link] of links.entries()) liveness.follow(link, streams[i]!)
    for (let ms = 0; ms < 60_000; ms += 1_000) {
      at(ms)
      streams[1]!.arrivedMs = ms - 500
      liveness.look(links.map(owing))
    }
    expect(asked).toEqual([])
  })

  it('is not asked when nothing is wanted of it, and no more than so many are at once', () => {
    const { liveness, asked, at } = watch()
    const many = Array.from({ length: LIVENESS.questionsAtOnceMax + 5 }, (_, i) => remoteOf(`p${i}`))
    for (const remote of many) liveness.follow(remote, { arrivedMs: 0 })
    at(60_000)
    liveness.look([])
    expect(asked).toEqual([])
    liveness.look(many.map(owing))
    expect(asked).toHaveLength(LIVENESS.questionsAtOnceMax)
  })
})

describe('two links with one peer', () => {
  const link = (direction: Remote['direction'], peerId: string): PeerLink => ({ remote: { ...remoteOf(peerId), direction } }) as PeerLink // all that is looked at
  const self = new TextEncoder().encode('m')

  it('that were opened at the same time: both sides keep the one that the smaller id opened', () => {
    expect(replaces(link('outbound', 'z'), link('inbound', 'z'), self, 500)).toBe(true)
    expect(replaces(link('inbound', 'z'), link('outbound', 'z'), self, 500)).toBe(false)
    expect(replaces(link('inbound', 'a'), link('outbound', 'a'), self, 500)).toBe(true)
  })

  it('the old one silent: whoever opens another has lost it', () => {
    expect(replaces(link('inbound', 'z'), link('outbound', 'z'), self, 3_000)).toBe(true)
    expect(replaces(link('inbound', 'z'), link('inbound', 'z'), self, 0)).toBe(true)
  })
})

describe('addresses of this computer', () => {
  class FakeSocket extends EventEmitter {
    readonly localAddress: string | undefined
    ended: Error | undefined
    constructor(localAddress: string | undefined) {
      super()
      this.localAddress = localAddress
    }
    destroy(error?: Error): this {
      this.ended = error
      this.emit('close')
      return this
    }
  }

  function computer(...first: string[]) {
    let hosts = new Set(first)
    const own = new OwnHosts({ hosts: () => hosts, log: silentLog })
    const events: string[] = []
    own.onMoved(() => events.push('moved'))
    const socket = (address: string | undefined): FakeSocket => {
      const made = new FakeSocket(address)
      made.once('close', () => events.push(`closed ${address}`))
      own.watch(made as unknown as OwnSocket) // all that is used of a socket
      return made
    }
    const becomes = (...next: string[]): void => {
      hosts = new Set(next)
      own.look()
    }
    return { events, socket, becomes }
  }

  it('that are gone while another has come end their connections at once, and no other', () => {
    const { events, socket, becomes } = computer('127.0.0.1', '91.7.0.2', 'fe80::1')
    socket('91.7.0.2')
    socket('::ffff:91.7.0.2')
    const others = [socket('127.0.0.1'), socket('fe80::1%eth0'), socket(undefined)]
    becomes('127.0.0.1', 'fe80::1', '91.8.0.2')
    expect(events).toEqual(['closed 91.7.0.2', 'closed ::ffff:91.7.0.2', 'moved'])
    expect(others.map(({ ended }) => ended)).toEqual([undefined, undefined, undefined])
  })

  it('that are away and come back end nothing', () => {
    const { events, socket, becomes } = computer('127.0.0.1', '91.7.0.2')
    socket('91.7.0.2')
    becomes('127.0.0.1')
    becomes('127.0.0.1', '91.7.0.2')
    expect(events).toEqual([])
    becomes('127.0.0.1')
    becomes('127.0.0.1', '91.8.0.2')
    expect(events).toEqual(['closed 91.7.0.2', 'moved'])
  })

  it('that are added tell nobody of a move', () => {
    const { events, socket, becomes } = computer('127.0.0.1', '91.7.0.2')
    socket('91.7.0.2')
    becomes('127.0.0.1', '91.7.0.2', '10.0.0.5')
    expect(events).toEqual([])
  })
})

describe('a connection', () => {
  const closing: (() => unknown)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function start(): Promise<Stack> {
    const stack = await createStack({
      ...{ identity: await createIdentity(), network: 'test-liveness', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false },
      ...{ datastore: new MemoryDatastore(), log: silentLog, groupPrivate: false },
    })
    closing.push(() => stack.stop())
    return stack
  }

  /** A line between the dialler and `port` that can go dead: it stays open, and nothing passes. */
  async function line(port: number): Promise<{ port: number; cut(): void }> {
    let isDead = false
    const sockets: Socket[] = []
    const server: Server = createServer((near) => {
      const far = connect(port, '127.0.0.1')
      sockets.push(near, far)
      near.on('data', (bytes) => isDead || far.write(bytes)).on('error', () => {})
      far.on('data', (bytes) => isDead || near.write(bytes)).on('error', () => {})
    })
    const listening = Promise.withResolvers<void>()
    server.listen(0, '127.0.0.1', () => listening.resolve())
    await listening.promise
    closing.push(() => {
      for (const socket of sockets) socket.destroy()
      server.close()
    })
    const cut = (): void => {
      isDead = true
    }
    return { port: (server.address() as { port: number }).port, cut }
  }

  it('whose peer answers stays; one that leads nowhere ends, though nobody said so', async () => {
    const [near, far] = [await start(), await start()]
    await far.handleSwarm(async () => {})
    const between = await line(portOf(far.addresses()[0]!))
    const target = { peerId: far.peerId, addresses: [`/ip4/127.0.0.1/tcp/${between.port}`], isGiven: true }
    await near.openSwarm(target, AbortSignal.timeout(10_000))
    const isHeard = (): boolean => false
    expect(await near.endDead(far.peerId, isHeard)).toBe(0)
    expect(near.connections()).toHaveLength(1)
    between.cut()
    expect(await near.endDead(far.peerId, () => true)).toBe(0)
    expect(await near.endDead(far.peerId, isHeard)).toBe(1)
    expect(near.connections()).toHaveLength(0)
  })

  it.each(['smaller', 'greater'])(
    'that leads nowhere is not taken where the peer, whose id is %s, has opened another one',
    async (which) => {
      const pair = [await start(), await start()].sort((a, b) => Buffer.compare(a.peerIdBytes, b.peerIdBytes))
      const [far, near] = (which === 'smaller' ? pair : pair.reverse()) as [Stack, Stack]
      await near.handleSwarm(async () => {})
      await far.handleSwarm(async () => {})
      const between = await line(portOf(far.addresses()[0]!))
      const target = { peerId: far.peerId, addresses: [`/ip4/127.0.0.1/tcp/${between.port}`], isGiven: true }
      await near.openSwarm(target, AbortSignal.timeout(10_000))
      between.cut()
      // As far knows it: its own connection is lost.
      await far.endDead(near.peerId, () => false)
      await far.openSwarm({ peerId: near.peerId, addresses: near.addresses(), isGiven: true }, AbortSignal.timeout(10_000))
      expect(near.connections()).toHaveLength(2)
      const { remote } = await near.openSwarm(target, AbortSignal.timeout(5_000))
      expect(remote.address).not.toContain(`/tcp/${between.port}`)
    },
  )
})
