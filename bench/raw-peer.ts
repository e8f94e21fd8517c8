/**
 * The yardsticks of the transfer benchmark, as a process: one libp2p stream and nothing of Shoal but its wire libraries.
 *
 * Mode "raw" sends a file's bytes in 1 MiB messages. Mode "work" does the work that any such program must do: the sender reads and hashes
 * block files; the receiver hashes each block, writes it to a file of its own with fdatasync, opens it (AES-256-GCM) and writes the result.
 * Both sides keep at most WINDOW blocks under way. Usage: raw-peer.ts serve|fetch raw|work DIR [ADDR BLOCKS]; prints one JSON line.
 */
import { createDecipheriv, hash } from 'node:crypto'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import type { Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { Uint8ArrayList } from 'uint8arraylist'

const BLOCK_BYTES = 1_048_576
const WINDOW = 16
const PROTOCOL = '/bench/1'
const KEY = new Uint8Array(32).fill(7)
const NONCE = new Uint8Array(12)
const MIB = 1_048_576

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: 2 * MIB, maxReadBufferLength: 4 * MIB } })],
  connectionMonitor: { enabled: false },
})
const [role, mode, dir = '', address = '', count = '0'] = process.argv.slice(2)

const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`)

/** Resolves at the stream's next event of one of these kinds. */
function next(stream: Stream, kinds: ('message' | 'drain' | 'close')[]): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      for (const kind of kinds) stream.removeEventListener(kind, done)
      resolve()
    }
    for (const kind of kinds) stream.addEventListener(kind, done)
  })
}

async function serve(stream: Stream): Promise<void> {
  let acknowledged = 0
  let blocks = -1
  stream.addEventListener('message', ({ data }) => {
    const bytes = data.subarray()
    if (blocks < 0) blocks = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
    else acknowledged += bytes.byteLength
  })
  while (blocks < 0) await next(stream, ['message', 'close'])
  const raw = new Uint8Array(BLOCK_BYTES).fill(1)
  for (let i = 0; i < blocks; i++) {
    while (i - acknowledged >= WINDOW) await next(stream, ['message', 'close'])
    let block: Uint8Array = raw
    if (mode === 'work') {
      block = await readFile(join(dir, `${i}.block`))
      hash('sha256', block, 'buffer')
    }
    stream.send(block)
    while (stream.writableNeedsDrain) await next(stream, ['drain', 'close'])
  }
  await stream.close()
}

async function fetchAll(blocks: number): Promise<void> {
  const stream = await node.dialProtocol(multiaddr(address), PROTOCOL)
  const unread = new Uint8ArrayList()
  const pending = new Set<Promise<void>>()
  const out = mode === 'work' ? await open(join(dir, 'out.bin'), 'w') : null
  const since = performance.now()
  const head = new Uint8Array(4)
  new DataView(head.buffer).setUint32(0, blocks)
  stream.addEventListener('message', ({ data }) => unread.append(data))
  stream.send(head)
  for (let i = 0; i < blocks; i++) {
    while (unread.byteLength < BLOCK_BYTES) await next(stream, ['message', 'close'])
    const block = unread.slice(0, BLOCK_BYTES)
    unread.consume(BLOCK_BYTES)
    if (out === null) {
      stream.send(new Uint8Array(1))
      continue
    }
    const task = keep(block, i, out).then(() => {
      pending.delete(task)
      stream.send(new Uint8Array(1))
    })
    pending.add(task)
  }
  await Promise.all(pending)
  await out?.datasync()
  await out?.close()
  say({ ms: performance.now() - since })
}

async function keep(block: Uint8Array, index: number, out: Awaited<ReturnType<typeof open>>): Promise<void> {
  hash('sha256', block, 'buffer')
  const file = await open(join(dir, `${index}.got`), 'w')
  await file.write(block)
  await file.datasync()
  await file.close()
  const decipher = createDecipheriv('aes-256-gcm', KEY, NONCE)
  decipher.setAuthTag(block.subarray(BLOCK_BYTES - 16))
  const piece = decipher.update(block.subarray(0, BLOCK_BYTES - 16))
  decipher.final()
  await out.write(piece, 0, piece.byteLength, index * (BLOCK_BYTES - 16))
}

if (role === 'serve') {
  await node.handle(PROTOCOL, (stream) => serve(stream))
  say({ address: node.getMultiaddrs()[0]?.toString() })
  process.once('SIGTERM', async () => {
    await node.stop()
    process.exit(0)
  })
} else {
  await fetchAll(Number(count))
  const usage = process.resourceUsage()
  say({ cpuSeconds: (usage.userCPUTime + usage.systemCPUTime) / 1e6, rssMiB: usage.maxRSS / 1024 })
  await node.stop()
}
