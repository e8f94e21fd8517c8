/**
 * The kinds of hostile peers: what each does in a session whose hello was right, whoever dialled. Most of them serve the nodes of the
 * tree as they are, because whoever lies about the root is asked for nothing more.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { multiaddr } from '@multiformats/multiaddr'
import { WIRE } from '../../protocol/limits.ts'
import { encodeMessage, type Message } from '../../protocol/wire/messages.ts'
import type { StoredTree } from '../kit/stored.ts'
import type { Kind, Order } from './orders.ts'
import { framed, type RawSession } from './raw-session.ts'

export interface Act {
  session: RawSession
  order: Order
  tree: StoredTree
  /** To be called when the kind has done what it is for. */
  deed: () => void
}

type Answer = (level: number, index: number) => Promise<void>

const DRIP_MS = 19_000

/** Says that it has everything, and answers requests one after the other. */
async function serve({ session }: Act, answer: Answer): Promise<void> {
  await session.send({ type: 'have', have: { kind: 'all' } })
  let last = Promise.resolve()
  for (let message = await session.read(); message !== null; message = await session.read()) {
    if (message.type !== 'request') continue
    const { level, index } = message
    last = last.then(() => answer(level, index)).catch(() => {}) // the session is over
  }
  await last
}

/** Serves nodes as they are; `leaf` is what it does when it is asked for a leaf. */
const liar =
  (leaf: (act: Act, index: number) => Promise<void>) =>
  (act: Act): Promise<void> =>
    serve(act, async (level, index) => {
      if (level > 0) return await act.session.sendBlock(level, index, await act.tree.block(level, index))
      await leaf(act, index)
      act.deed()
    })

/** Does its worst at once, then waits for the end. */
const attack =
  (worst: (act: Act) => Promise<void>) =>
  async (act: Act): Promise<void> => {
    await worst(act)
    act.deed()
    await act.session.untilOver()
  }

const corruptBit = liar(async ({ session, tree }, index) => {
  const block = await tree.block(0, index)
  block[block.byteLength - 1]! ^= 1
  await session.sendBlock(0, index, block)
})

const otherBlock = liar(async ({ session, tree }, index) => {
  const block = await tree.block(0, index)
  const { blockCount } = tree.dag.shape
  for (let step = 1; step < blockCount; step++) {
    const other = await tree.block(0, (index + step) % blockCount)
    if (other.byteLength === block.byteLength && !Buffer.from(other).equals(block)) return await session.sendBlock(0, index, other)
  }
})

const wrongLength = liar(async ({ session, tree }, index) => {
  const block = await tree.block(0, index)
  await session.sendBlock(0, index, block.subarray(0, -1))
})

const lyingBitmap = liar(({ session }, index) => session.send({ type: 'absent', level: 0, index }))

const acceptAndStall = liar(async () => {})

const drip = liar(async ({ session, tree, deed }, index) => {
  const block = await tree.block(0, index)
  for (let offset = 0; offset < block.byteLength && !session.isOver; offset++) {
    const bytes = block.subarray(offset, offset + 1)
    await session.send({ type: 'data', level: 0, index, total: block.byteLength, offset, bytes })
    deed()
    await new Promise((resolve) => setTimeout(resolve, DRIP_MS).unref())
  }
})

const leafCount = (act: Act): number => act.tree.dag.shape.blockCount

const requestFlood = attack(async (act) => {
  for (let i = 0; i < 100_000 && !act.session.isOver; i++)
    await act.session.send({ type: 'request', level: 0, index: randomInt(leafCount(act)) })
})

const requestNeverRead = async (act: Act): Promise<void> => {
  const { session } = act
  await session.send({ type: 'credit', bytes: 2 ** 31 })
  session.stopReading()
  for (let index = 0; index < Math.min(64, leafCount(act)); index++) await session.send({ type: 'request', level: 0, index })
  act.deed()
  await new Promise<void>((resolve) => session.stream.addEventListener('close', () => resolve(), { once: true }))
}

const requestWithoutCredit = attack(async (act) => {
  for (let index = 0; index < Math.min(60, leafCount(act)); index++) await act.session.send({ type: 'request', level: 0, index })
})

const oversizeFrame = attack(({ session }) => session.sendBytes(framed(new Uint8Array(64), 2 ** 31)))

const truncatedFrame = attack(async ({ session }) => {
  await session.sendBytes(framed(new Uint8Array(10), 1_000))
  await session.finish()
})

const unknownType = attack(({ session }) => session.sendBytes(framed(Uint8Array.of(77, 1, 2, 3))))

const unsolicitedBlock = attack(({ session }) =>
  session.send({ type: 'data', level: 0, index: 1, total: 2 ** 20, offset: 0, bytes: randomBytes(32_768) }),
)

const haveFlood = attack(async ({ session }) => {
  for (let i = 0; i < 1_000 && !session.isOver; i++) await session.send({ type: 'have', have: { kind: 'all' } })
})

const badBitmap = attack((act) =>
  act.session.send({ type: 'have', have: { kind: 'bitmap', first: 0, bits: new Uint8Array(Math.ceil(leafCount(act) / 8) + 1) } }),
)

/** Fifty made-up peers who all claim to live at the victim's address. */
function poison({ order }: Act): Message {
  const address = multiaddr(`/ip4/${order.sink?.host ?? '127.9.9.9'}/tcp/${order.sink?.port ?? 9}`).bytes
  const id = (): Uint8Array => Uint8Array.from([0x00, 0x24, 0x08, 0x01, 0x12, 0x20, ...randomBytes(32)])
  return { type: 'pex', peers: Array.from({ length: 50 }, () => ({ id: id(), addresses: [address] })) }
}

/** As many exchanges as are allowed at once; one more comes when these have had their effect, and much too soon. */
const pexPoison = async (act: Act): Promise<void> => {
  for (let i = 0; i < WIRE.pexAtOnceMax; i++) await act.session.send(poison(act))
  act.deed()
  await new Promise((resolve) => setTimeout(resolve, 500))
  await act.session.send(poison(act))
  await act.session.untilOver()
}

const SMALL: Message[] = [{ type: 'keepalive' }, { type: 'skipped' }, { type: 'credit', bytes: 1 }]
const smallFrames = (count: number): Uint8Array =>
  Buffer.concat(Array.from({ length: count }, (_, i) => framed(encodeMessage(SMALL[i % SMALL.length]!))))

/** A hundred thousand a second, without filling the other side's buffer. */
const manySmallFrames = attack(async ({ session }) => {
  const bytes = smallFrames(1_000)
  for (let i = 0; i < 1_000 && !session.isOver; i++) {
    await session.sendBytes(bytes)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
})

/** As many as are allowed, for as long as it is let. */
const smallFramesWithin = async (act: Act): Promise<void> => {
  const bytes = smallFrames(350)
  const timer = setInterval(() => act.session.sendBytes(bytes).catch(() => {}), 100)
  act.deed()
  await act.session.untilOver()
  clearInterval(timer)
}

/** Those that begin with a right hello; what the others do is a matter of the hello itself, see hostile-peer.ts. */
export const ACTS: Partial<Record<Kind, (act: Act) => Promise<void>>> = {
  'corrupt-bit': corruptBit,
  'other-block': otherBlock,
  'wrong-length': wrongLength,
  'lying-bitmap': lyingBitmap,
  'accept-and-stall': acceptAndStall,
  drip,
  'request-flood': requestFlood,
  'request-never-read': requestNeverRead,
  'request-without-credit': requestWithoutCredit,
  'oversize-frame': oversizeFrame,
  'truncated-frame': truncatedFrame,
  'unknown-type': unknownType,
  'unsolicited-block': unsolicitedBlock,
  'have-flood': haveFlood,
  'bad-bitmap': badBitmap,
  'pex-poison': pexPoison,
  'many-small-frames': manySmallFrames,
  'small-frames-within-the-limit': smallFramesWithin,
}
