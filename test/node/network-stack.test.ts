/** Whole stacks on loopback, in a named network of their own: streams, announce and find, and orderly ends. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { MemoryDatastore } from 'datastore-core'
import { describe, expect, test } from 'vitest'
import { NetworkError } from '../../node/network/network-error.ts'
import { createIdentity, type FoundPeer, peerIdOf, type Stack } from '../../node/network/stack.ts'
import { NETWORK } from '../../protocol/limits.ts'
import { startsStacks } from '../kit/stacks.ts'

const patience = (): AbortSignal => AbortSignal.timeout(10_000)

const start = startsStacks({ network: 'test-stack' })

const targetOf = (stack: Stack): FoundPeer => ({ peerId: stack.peerId, addresses: stack.addresses() })

const found = async (stack: Stack, rendezvous: Uint8Array): Promise<FoundPeer[]> => {
  const peers: FoundPeer[] = []
  for await (const peer of stack.find(rendezvous, patience())) peers.push(peer)
  return peers
}

const codeOf = async (work: Promise<unknown>): Promise<unknown> => {
  const error: unknown = await work.then(
    () => 'no error',
    (thrown: unknown) => thrown,
  )
  return error instanceof NetworkError ? error.code : error
}

describe('stopping', () => {
  test('ends although the list of known peers cannot be written', async () => {
    class Hanging extends MemoryDatastore {
      override put(...args: Parameters<MemoryDatastore['put']>): ReturnType<MemoryDatastore['put']> {
        return args[0].toString() === '/shoal/known-peers' ? new Promise<never>(() => {}) : super.put(...args)
      }
    }
    const stack = await start({ datastore: new Hanging() })
    await stack.stop()
    expect(stack.addresses()).toEqual([])
  })
})

describe('a swarm stream', () => {
  test('carries frames both ways and tells each side who the other is', async () => {
    const [a, b] = [await start(), await start()]
    const seen = Promise.withResolvers<string>()
    await b.handleSwarm(async (frames, remote, signal) => {
      seen.resolve(`${remote.direction} ${remote.peerId}`)
      await frames.write((await frames.read(signal))!, signal)
    })
    const { frames, remote } = await a.openSwarm(targetOf(b), patience())
    await frames.write(Uint8Array.of(1, 2, 3), patience())
    expect(await frames.read(patience())).toEqual(Uint8Array.of(1, 2, 3))
    expect(await frames.read(patience())).toBeNull()
    expect(await seen.promise).toBe(`inbound ${a.peerId}`)
    expect(remote).toMatchObject({ direction: 'outbound', peerId: b.peerId, peerIdBytes: b.peerIdBytes, isRelayed: false })
  })

  test('is outbound for the one who opened it, whoever opened the connection below', async () => {
    const [a, b] = [await start(), await start()]
    const seen: string[] = []
    const answer = async (_frames: unknown, { direction }: { direction: string }): Promise<void> => void seen.push(direction)
    await a.handleSwarm(answer)
    await b.handleSwarm(answer)
    const there = await a.openSwarm(targetOf(b), patience())
    await there.frames.read(patience())
    const back = await b.openSwarm(targetOf(a), patience())
    await back.frames.read(patience())
    expect(b.connections().map(({ direction }) => direction)).toEqual(['inbound'])
    expect([there.remote.direction, back.remote.direction]).toEqual(['outbound', 'outbound'])
    expect(seen).toEqual(['inbound', 'inbound'])
  })

  test('whose handler throws ends alone: the connection and other streams live on', async () => {
    const [a, b] = [await start(), await start()]
    let count = 0
    await b.handleSwarm(async (frames, _remote, signal) => {
      await frames.read(signal)
      if (count++ === 0) throw new Error('a fault in the session')
      await frames.write(Uint8Array.of(7), signal)
    })
    const first = await a.openSwarm(targetOf(b), patience())
    await first.frames.write(new Uint8Array(1), patience())
    expect(await codeOf(first.frames.read(patience()))).toBe('CLOSED')
    const second = await a.openSwarm(targetOf(b), patience())
    await second.frames.write(new Uint8Array(1), patience())
    expect(await second.frames.read(patience())).toEqual(Uint8Array.of(7))
    expect(b.connections()).toHaveLength(1)
  })

  test('fails with a code: nobody there, no usable address, no such protocol, banned', async () => {
    const [a, b] = [await start(), await start()]
    const nobody = peerIdOf(await createIdentity()).text
    expect(await codeOf(a.openSwarm({ peerId: nobody, addresses: ['/ip4/127.0.0.1/tcp/1999'] }, patience()))).toBe('UNREACHABLE')
    expect(await codeOf(a.openSwarm({ peerId: nobody, addresses: ['nonsense', ...b.addresses()] }, patience()))).toBe('BAD_ADDRESS')
    expect(await codeOf(a.openSwarm(targetOf(b), patience()))).toBe('REFUSED')
    a.ban(b.peerId, performance.now() + 60_000)
    expect(a.connections()).toHaveLength(0)
    expect(await codeOf(a.openSwarm(targetOf(b), patience()))).toBe('UNREACHABLE')
  })

  test('over the limit of one connection is refused, not lost', async () => {
    const [a, b] = [await start(), await start()]
    await b.handleSwarm(async (frames, _remote, signal) => {
      while ((await frames.read(signal)) !== null);
    })
    for (let i = 0; i < 16; i++) await a.openSwarm(targetOf(b), patience())
    const outcome = await codeOf(
      a.openSwarm(targetOf(b), patience()).then(async ({ frames }) => {
        await frames.read(patience())
      }),
    )
    expect(['REFUSED', 'CLOSED']).toContain(outcome)
  })
})

describe('announce and find', () => {
  test('meet on a third node that both only know as an entrance', async () => {
    const entrance = await start()
    const bootstrap = entrance.addresses()
    const [a, b] = [await start({ bootstrap }), await start({ bootstrap })]
    expect(await a.connectBootstrap(patience())).toBe(1)
    expect(await b.connectBootstrap(patience())).toBe(1)
    const rendezvous = randomBytes(32)
    expect(await a.provide(rendezvous, patience())).toBeGreaterThanOrEqual(1)
    const peers = await found(b, rendezvous)
    expect(peers.map(({ peerId }) => peerId)).toEqual([a.peerId])
    await a.handleSwarm(async (frames, _remote, signal) => frames.write(Uint8Array.of(9), signal))
    const { frames } = await b.openSwarm(peers[0]!, patience())
    expect(await frames.read(patience())).toEqual(Uint8Array.of(9))
    expect(await found(b, randomBytes(32))).toEqual([])
    expect(a.dht()).toMatchObject([{ name: 'net', mode: 'server' }])
  })

  test('answers for its own share when it is the only server, also after a restart, and no more once it has stopped providing', async () => {
    const datastore = new MemoryDatastore()
    const identity = await createIdentity()
    const rendezvous = randomBytes(32)
    const before = await start({ datastore, identity })
    await before.provide(rendezvous, AbortSignal.timeout(200)).catch(() => 0)
    await before.stop()
    const again = await start({ datastore, identity })
    const asking = await start({ bootstrap: again.addresses() })
    await asking.connectBootstrap(patience())
    expect((await found(asking, rendezvous)).map(({ peerId }) => peerId)).toEqual([again.peerId])
    await again.stopProviding(rendezvous)
    expect(await found(asking, rendezvous)).toEqual([])
  })

  test('stays inside its network: another name shares neither DHT nor swarm protocol', async () => {
    const entrance = await start({ network: 'test-one' })
    const other = await start({ network: 'test-two', bootstrap: entrance.addresses() })
    await other.connectBootstrap(patience())
    await entrance.handleSwarm(async () => {})
    expect(await codeOf(other.openSwarm(targetOf(entrance), patience()))).toBe('REFUSED')
    expect(other.dht()).toMatchObject([{ peers: 0 }])
  })
})

describe('a stack', () => {
  test('remembers whom it reached, and dials them after a restart with no entrance given', async () => {
    const friend = await start()
    const datastore = new MemoryDatastore()
    const first = await start({ datastore, bootstrap: friend.addresses() })
    await first.connectBootstrap(patience())
    await first.stop()
    const second = await start({ datastore })
    expect(await second.connectBootstrap(patience())).toBe(1)
    expect(second.connections()[0]?.peerId).toBe(friend.peerId)
  })

  test('stops within its time while streams are open, and any number of times', async () => {
    const [a, b] = [await start(), await start()]
    const ended = Promise.withResolvers<unknown>()
    await b.handleSwarm(async (frames, _remote, signal) => {
      await frames.read(signal).catch(ended.resolve)
    })
    await a.openSwarm(targetOf(b), patience())
    await expect.poll(() => b.connections().length).toBe(1)
    const beganMs = performance.now()
    await Promise.all([b.stop(), b.stop()])
    expect(performance.now() - beganMs).toBeLessThan(5_500)
    expect(await ended.promise).toMatchObject({ code: 'CLOSED' })
  })

  test('says that a port is taken, and that an address or a name is none', async () => {
    const taken = await start()
    const port = /tcp\/(\d+)/.exec(taken.addresses()[0]!)![1]
    expect(await codeOf(start({ listen: [`/ip4/127.0.0.1/tcp/${port}`] }))).toBe('PORT_TAKEN')
    expect(await codeOf(start({ bootstrap: ['nonsense'] }))).toBe('BAD_ADDRESS')
    expect(await codeOf(start({ network: 'Not A Name' }))).toBe('BAD_ADDRESS')
  })

  test('keeps its identity: the peer id is that of the key it was given', async () => {
    const identity = await createIdentity()
    const stack = await start({ identity })
    expect(peerIdOf(identity)).toEqual({ text: stack.peerId, bytes: stack.peerIdBytes })
    expect(stack.addresses().every((address) => address.endsWith(`/p2p/${stack.peerId}`))).toBe(true)
  })
})

describe('too many sockets', () => {
  test('are closed as they come, before any word is said, and there is room again when others go', async () => {
    const stack = await start({ socketsMax: 4 })
    const [, host = '', port = ''] = /\/ip4\/([^/]+)\/tcp\/(\d+)/.exec(stack.addresses()[0] ?? '') ?? []
    let closed = 0
    const sockets = Array.from({ length: 12 }, (_, i) =>
      connect({ host, port: Number(port), localAddress: `127.0.${i}.1` })
        .on('error', () => {})
        .on('close', () => closed++),
    )
    // Well before those that are silent are sent away.
    await expect.poll(() => closed, { timeout: NETWORK.inboundUpgradeMs / 2 }).toBe(8)
    for (const socket of sockets) socket.destroy()
    const other = await start()
    await stack.handleSwarm(async (frames, _remote, signal) => frames.write(Uint8Array.of(7), signal))
    await expect
      .poll(async () => (await other.openSwarm(targetOf(stack), patience()).catch(() => null))?.frames.read(patience()), {
        timeout: 10_000,
      })
      .toEqual(Uint8Array.of(7))
  })
})
