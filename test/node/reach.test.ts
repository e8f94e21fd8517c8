/** Who can reach a node, and relays: whole network stacks on loopback, which here counts as the world outside. */
import { MemoryDatastore } from 'datastore-core'
import { afterEach, describe, expect, it } from 'vitest'
import { MIB } from '../../bench/meters.ts'
import { silentLog } from '../../node/log.ts'
import type { FrameStream } from '../../node/network/frame-stream.ts'
import { groupOf } from '../../node/network/peer-address.ts'
import { createIdentity, createStack, type Stack, type StackOptions, type SwarmHandler } from '../../node/network/stack.ts'

const LISTEN = ['/ip4/127.0.0.1/tcp/0']
const WAIT = { timeout: 20_000, interval: 50 }
const stacks: Stack[] = []
const patience = (): AbortSignal => AbortSignal.timeout(20_000)

afterEach(async () => {
  await Promise.all(stacks.splice(0).map((stack) => stack.stop()))
})

async function start(options: Partial<StackOptions> = {}, handler: SwarmHandler = echo): Promise<Stack> {
  const stack = await createStack({
    ...{ identity: await createIdentity(), network: 'reach', listen: LISTEN, bootstrap: [], mdns: false },
    ...{ datastore: new MemoryDatastore(), log: silentLog, groupPrivate: false, isLoopbackFar: true },
    ...options,
  })
  stacks.push(stack)
  await stack.handleSwarm(handler)
  return stack
}

/** A node that nobody can dial, connected to `relay`. */
async function startBehind(relay: Stack, options: Partial<StackOptions> = {}, handler?: SwarmHandler): Promise<Stack> {
  const stack = await start({ listen: [], bootstrap: relay.addresses(), ...options }, handler)
  await stack.connectBootstrap(patience())
  return stack
}

const isRelayed = (address: string): boolean => address.includes('/p2p-circuit')

/** A relay that everybody reaches, and a node that is reached through it alone. */
async function relayed(handler?: SwarmHandler): Promise<{ relay: Stack; hidden: Stack }> {
  const relay = await start()
  const hidden = await startBehind(relay, {}, handler)
  await expect.poll(() => relay.reach().kind, WAIT).toBe('open')
  await expect.poll(() => hidden.addresses().filter(isRelayed).length, WAIT).toBe(1)
  return { relay, hidden }
}

const targetOf = (stack: Stack) => ({ peerId: stack.peerId, addresses: stack.addresses() })

/** Sends back what comes. */
async function echo(frames: FrameStream): Promise<void> {
  for (;;) {
    const frame = await frames.read(patience())
    if (frame === null) return
    await frames.write(frame, patience())
  }
}

describe('who can reach a node', () => {
  it('is open when others dial it back, and then relays; one that listens nowhere is reached through it', async () => {
    const { relay, hidden } = await relayed()
    expect(relay.reach().relaying).toMatchObject({ peers: 1, circuits: 0, bytesToday: 0 })
    expect(hidden.reach()).toMatchObject({ kind: 'relayed', relays: [relay.peerId], relaying: null })
    expect(relay.addresses().some(isRelayed)).toBe(false)
  })

  it('is not known where nobody outside is connected', async () => {
    const alone = await start()
    expect(alone.reach().kind).toBe('local')
    const near = await start({ isLoopbackFar: false })
    const other = await start({ isLoopbackFar: false, bootstrap: near.addresses() })
    await other.connectBootstrap(patience())
    expect(near.reach()).toMatchObject({ kind: 'local', relaying: null })
  })
})

describe('a relay', () => {
  it('carries streams of shares both ways, and the other side sees that they are relayed', async () => {
    let seen = false
    const { relay, hidden } = await relayed(async (frames, remote) => {
      seen = remote.isRelayed
      await echo(frames)
    })
    const far = await startBehind(relay)
    const { frames, remote } = await far.openSwarm(targetOf(hidden), patience())
    expect(remote.isRelayed).toBe(true)
    const sent = new Uint8Array(60_000).fill(7)
    for (let i = 0; i < 20; i++) {
      await frames.write(sent, patience())
      expect(await frames.read(patience())).toEqual(sent)
    }
    expect(seen).toBe(true)
    expect(relay.reach().relaying).toMatchObject({ circuits: 1, bytesToday: expect.closeTo(2 * 20 * 60_000, -5) })
    await frames.close(patience())
  })

  it('is let go of when whom it was for can be dialled back', async () => {
    const { relay, hidden } = await relayed()
    const open = await start({ bootstrap: relay.addresses() })
    await open.connectBootstrap(patience())
    await expect.poll(() => open.reach().kind, WAIT).toBe('open')
    const { frames, remote } = await open.openSwarm(targetOf(hidden), patience())
    expect(remote.isRelayed).toBe(false)
    const direct = open.connections().filter(({ peerId, address }) => peerId === hidden.peerId && !isRelayed(address))
    expect(direct.map(({ direction }) => direction)).toEqual(['inbound'])
    await expect.poll(() => relay.reach().relaying?.circuits, WAIT).toBe(0)
    await frames.close(patience())
  })

  it('relays for nobody when it may pass on nothing, and ends what it passes on when the day is used up', async () => {
    const { relay, hidden } = await relayed()
    const far = await startBehind(relay)
    relay.setRelayLimits(MIB, 100 * MIB)
    const { frames } = await far.openSwarm(targetOf(hidden), patience())
    const exchange = async (): Promise<void> => {
      for (;;) {
        await frames.write(new Uint8Array(60_000), patience())
        await frames.read(patience())
      }
    }
    await expect(exchange()).rejects.toThrow()
    await expect.poll(() => relay.reach().relaying?.circuits, WAIT).toBe(0)
    expect(relay.reach().relaying?.bytesToday).toBeLessThan(MIB + 200_000)
    await expect(far.openSwarm(targetOf(hidden), patience())).rejects.toThrow()
    relay.setRelayLimits(0, 0)
    await expect.poll(() => relay.reach().relaying, WAIT).toBe(null)
  })

  it('relays again when it may again', async () => {
    const { relay } = await relayed()
    relay.setRelayLimits(0, 0)
    await expect.poll(() => relay.reach().relaying, WAIT).toBe(null)
    relay.setRelayLimits(MIB, MIB)
    const late = await startBehind(relay)
    await expect.poll(() => late.reach().relays, WAIT).toEqual([relay.peerId])
  })

  it('is not blamed for what those do whom it passes on', () => {
    const address = '/ip4/5.9.0.2/tcp/4801/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit'
    expect(groupOf(address, false)).toBe('')
    expect(groupOf(address, true)).toBe('')
    expect(groupOf('/ip4/5.9.0.2/tcp/4801', false)).toBe('5.9.0.0/24')
  })

  it('has no place for peers of another network', async () => {
    const { relay } = await relayed()
    const stranger = await startBehind(relay, { network: 'another' })
    await expect.poll(() => stranger.connections().length, WAIT).toBe(1)
    await expect.poll(() => relay.reach().relaying?.peers, WAIT).toBe(1)
    expect(stranger.addresses()).toEqual([])
  })

  it('is found by its key in the DHT where none is at hand', async () => {
    const relay = await start()
    const server = await start({ bootstrap: relay.addresses() })
    await server.connectBootstrap(patience())
    server.setRelayLimits(0, 0)
    await expect.poll(() => relay.reach().relaying, WAIT).not.toBe(null)
    const hidden = await startBehind(server)
    await expect.poll(() => hidden.reach().relays, { ...WAIT, timeout: 40_000 }).toEqual([relay.peerId])
  })
})
