/** Stacks that meet over WebSocket, and strangers at its door. */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { MemoryDatastore } from 'datastore-core'
import { describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { Stack } from '../../node/network/stack.ts'
import { NETWORK } from '../../protocol/limits.ts'
import { startsStacks } from '../kit/stacks.ts'

const FRAME_BYTES = 2 ** 16
const patience = (): AbortSignal => AbortSignal.timeout(20_000)

const start = startsStacks({ network: 'test-websocket', listen: ['/ip4/127.0.0.1/tcp/0/ws'] })

const portOf = (stack: Stack): number => Number(/\/tcp\/(\d+)\/ws/.exec(stack.addresses()[0] ?? '')?.[1])
const targetOf = (stack: Stack) => ({ peerId: stack.peerId, addresses: stack.addresses() })

describe('two nodes over WebSocket', () => {
  test('send each other megabytes both ways, and know each other', async () => {
    const [a, b] = [await start(), await start()]
    const bytes = randomBytes(FRAME_BYTES)
    await b.handleSwarm(async (frames, _remote, signal) => {
      for (let frame = await frames.read(signal); frame !== null; frame = await frames.read(signal)) await frames.write(frame, signal)
    })
    const { frames, remote } = await a.openSwarm(targetOf(b), patience())
    for (let at = 0; at < 40; at++) {
      await frames.write(bytes, patience())
      expect(Buffer.from((await frames.read(patience()))!).equals(bytes)).toBe(true)
    }
    expect(remote).toMatchObject({ peerId: b.peerId, direction: 'outbound', isRelayed: false })
    expect(a.connections()[0]?.address).toContain('/ws')
  })

  test('end at once when one of them bans the other', async () => {
    const [a, b] = [await start(), await start()]
    await b.handleSwarm(async (frames, _remote, signal) => void (await frames.read(signal)))
    await a.openSwarm(targetOf(b), patience())
    b.ban(a.peerId, performance.now() + 60_000)
    await expect.poll(() => [a.connections().length, b.connections().length]).toEqual([0, 0])
  })

  test('listen on the same port after a restart', async () => {
    const datastore = new MemoryDatastore()
    const first = await start({ datastore })
    const port = portOf(first)
    await first.stop()
    expect(portOf(await start({ datastore }))).toBe(port)
  })
})

describe('a stranger at a WebSocket', () => {
  const closed = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once('close', () => resolve()))

  test('who says nothing, or speaks slowly, or asks for a page, is sent away', async () => {
    const stack = await start()
    const [silent, slow, page] = [1, 2, 3].map(() => connect(portOf(stack), '127.0.0.1').on('error', () => {}))
    slow!.write('GET / HT')
    page!.end('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    await Promise.all([silent!, slow!, page!].map((socket) => closed(socket.resume())))
  }, 20_000)

  test('cannot end the node by a message that is too long', async () => {
    const stack = await start()
    const websocket = new WebSocket(`ws://127.0.0.1:${portOf(stack)}`)
    await new Promise((resolve) => websocket.once('open', resolve))
    const ended = new Promise((resolve) => websocket.once('close', resolve))
    websocket.on('error', () => {})
    websocket.send(new Uint8Array(NETWORK.readBytesPerTurn + 1))
    await ended
    const other = await start()
    await stack.handleSwarm(async (frames, _remote, signal) => void (await frames.read(signal)))
    expect((await other.openSwarm(targetOf(stack), patience())).remote.peerId).toBe(stack.peerId)
  })
})
