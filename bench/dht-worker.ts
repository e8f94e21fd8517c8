/**
 * Some nodes of `npm run bench:dht` in one process: started, stopped and asked by the parent, one message for each (dht-party.ts).
 *
 * Each node is a host of its own: it listens on and dials from an address of 127/8, and the rules by neighbourhood apply to it.
 */
import { subscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { MemoryDatastore } from 'datastore-core'
import { silentLog } from '../node/log.ts'
import { createIdentity, createStack, type Stack } from '../node/network/stack.ts'
import type { Answer, Ask, Asked } from './dht-party.ts'

const stacks = new Map<number, Stack>()
const sockets = new Set<Socket>()
let closedBytes = 0

const bytesOf = (socket: Socket): number => socket.bytesRead + socket.bytesWritten

const count = (message: unknown): void => {
  const { socket } = message as { socket: Socket } // as Node documents both channels
  sockets.add(socket)
  socket.once('close', () => {
    sockets.delete(socket)
    closedBytes += bytesOf(socket)
  })
}
subscribe('net.client.socket', count)
subscribe('net.server.socket', count)

const stackOf = (node: number): Stack => {
  const stack = stacks.get(node)
  if (stack === undefined) throw new Error(`no node ${node}`)
  return stack
}

async function start({ node, network, host, bootstrap, isClient }: Extract<Ask, { do: 'start' }>): Promise<Asked> {
  const stack = await createStack({
    identity: await createIdentity(),
    network,
    listen: isClient ? [] : [`/ip4/${host}/tcp/0`],
    dialFrom: host,
    isDhtClient: isClient,
    bootstrap,
    mdns: false,
    datastore: new MemoryDatastore(),
    log: silentLog,
    groupPrivate: true,
  })
  stacks.set(node, stack)
  if (bootstrap.length > 0) await stack.connectBootstrap(AbortSignal.timeout(20_000))
  return { peerId: stack.peerId, address: stack.addresses()[0] ?? '' }
}

/** Milliseconds until the look-up names `peerId`; null when it ends without. */
async function find({ node, key, peerId, withinMs }: Extract<Ask, { do: 'find' }>): Promise<Asked> {
  const beganMs = performance.now()
  try {
    for await (const found of stackOf(node).find(Buffer.from(key, 'hex'), AbortSignal.timeout(withinMs)))
      if (found.peerId === peerId) return { tookMs: performance.now() - beganMs }
  } catch {
    // out of time: not found
  }
  return { tookMs: null }
}

async function answer(ask: Ask): Promise<Asked> {
  switch (ask.do) {
    case 'start':
      return start(ask)
    case 'stop': {
      const stack = stackOf(ask.node)
      stacks.delete(ask.node)
      await stack.stop()
      return {}
    }
    case 'provide': {
      const beganMs = performance.now()
      const told = await stackOf(ask.node).provide(Buffer.from(ask.key, 'hex'), AbortSignal.timeout(60_000))
      return { told, tookMs: performance.now() - beganMs }
    }
    case 'find':
      return find(ask)
    case 'traffic':
      return { bytes: [...sockets].reduce((sum, socket) => sum + bytesOf(socket), closedBytes) }
    case 'tables':
      return { peers: [...stacks.values()].map((stack) => stack.dht()[0]?.peers ?? 0) }
  }
}

process.on('message', ({ id, ask }: { id: number; ask: Ask }) => {
  answer(ask).then(
    (asked) => process.send?.({ id, asked } satisfies Answer),
    (error: unknown) => process.send?.({ id, error: String(error) } satisfies Answer),
  )
})
process.on('disconnect', () => process.exit(0))
