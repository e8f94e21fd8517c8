/** F6, F7: sockets that say nothing do not close the door, and data that nobody asked for does not fill the memory. */
import { connect } from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { afterEach, expect, test } from 'vitest'
import { endAll, patience, startAttacker, startStack } from './kit.ts'

afterEach(endAll)

const MIB = 2 ** 20

/** Twenty newcomers, one after the other: how many get in. */
async function honestDials(address: string): Promise<number> {
  let count = 0
  for (let i = 0; i < 20; i++) {
    const node = await createLibp2p({ transports: [tcp()], connectionEncrypters: [noise()], streamMuxers: [yamux()] })
    try {
      const connection = await node.dial(multiaddr(address), { signal: AbortSignal.timeout(3_000) })
      if (connection.status === 'open') count++
    } catch {
      // counted by its absence
    }
    await node.stop()
  }
  return count
}

test('F6 at fifty silent sockets a second every honest dial gets in', async () => {
  const server = await startStack()
  const before = process.memoryUsage().rss
  const attacker = startAttacker({ kind: 'silentSockets', target: server.addresses()[0]!, count: 1_000, perSecond: 50 })
  await attacker.ready
  expect(await honestDials(server.addresses()[0]!)).toBe(20)
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * MIB)
})

test('F6 one host has at most eight connections that are not upgraded yet', async () => {
  const server = await startStack()
  const [host, port] = [
    multiaddr(server.addresses()[0]!).getComponents()[0]!.value!,
    multiaddr(server.addresses()[0]!).getComponents()[1]!.value!,
  ]
  let open = 0
  const sockets = Array.from({ length: 30 }, () => {
    const socket = connect({ host: host!, port: Number(port), localAddress: '127.8.8.8' }, () => open++)
    socket.on('error', () => {})
    socket.on('close', () => open--)
    return socket
  })
  await expect.poll(() => open, { timeout: 3_000 }).toBe(8)
  for (const socket of sockets) socket.destroy()
})

test('F6 one neighbourhood has at most 32 connections, and others still get in', async () => {
  const server = await startStack()
  const address = multiaddr(server.addresses()[0]!)
  const greedy = await createLibp2p({ transports: [tcp()], connectionEncrypters: [noise()], streamMuxers: [yamux()] })
  const from = (host: string): number => server.connections().filter((connection) => connection.address.includes(`/${host}/`)).length
  try {
    for (let i = 0; i < 40; i++) await greedy.dial(address, { force: true, signal: patience() }).catch(() => {})
    await expect.poll(() => from('127.0.0.1'), { timeout: 5_000 }).toBe(32)
    const honest = await startStack({ listen: [], dialFrom: '127.0.9.1', bootstrap: [address.toString()] })
    await honest.connectBootstrap(patience())
    await expect.poll(() => from('127.0.9.1'), { timeout: 5_000 }).toBe(1)
    await greedy.getConnections()[0]!.close()
    await expect.poll(() => from('127.0.0.1'), { timeout: 5_000 }).toBe(31)
    await greedy.dial(address, { force: true, signal: patience() })
    await expect.poll(() => from('127.0.0.1')).toBe(32)
  } finally {
    await greedy.stop()
  }
})

test('F7 twenty connections that fill every stream they get are held to a fixed amount of memory', async () => {
  const server = await startStack()
  let streams = 0
  // A session that never reads: the worst that ours can do before a hello.
  await server.handleSwarm((_frames, _remote, signal) => {
    streams++
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve()))
  })
  const before = process.memoryUsage().external
  let most = 0
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().external - before)
  }, 20)
  const report = await startAttacker({ kind: 'unreadStreams', target: server.addresses()[0]!, count: 20, streams: 32 }).done
  clearInterval(watch)
  expect(report).toMatchObject({ type: 'done', sent: 640, refused: 640 })
  expect(streams).toBeGreaterThan(100)
  expect(most).toBeLessThan(100 * MIB)
  const honest = await startStack({ listen: ['/ip4/127.0.3.1/tcp/0'] })
  const opened = await honest.openSwarm({ peerId: server.peerId, addresses: server.addresses() }, patience())
  opened.frames.abort(new Error('done'))
})
