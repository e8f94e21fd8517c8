/** The small parts that jobs are made of: bit fields, numbering, waiting, telling, pins. */
import { createHash, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { asRuns, Bitfield } from '../../node/jobs/bitfield.ts'
import { type Claim, HaveTeller, type Holdings } from '../../node/jobs/have-teller.ts'
import { ItemMap } from '../../node/jobs/item-map.ts'
import type { LiveShare } from '../../node/jobs/live-share.ts'
import { Pins } from '../../node/jobs/pins.ts'
import { Uploads } from '../../node/jobs/uploads.ts'
import { Waiters } from '../../node/jobs/waiters.ts'
import { silentLog } from '../../node/log.ts'
import type { Have, PeerLink } from '../../node/network/peer-link.ts'
import { type FileCode, FileError } from '../../node/storage/file-error.ts'
import { type DagShape, nodeCount, type ShareDag, shapeOf } from '../../protocol/dag.ts'
import { FORMAT, SWARM, UPLOAD, WAITS } from '../../protocol/limits.ts'
import { Swarm } from '../../protocol/swarm/swarm.ts'

const SEED = { seed: 20_261_124, numRuns: 200 }

describe('a bit field', () => {
  it('agrees with a set of numbers, whatever is added and removed', () => {
    const changes = fc.array(fc.record({ index: fc.nat(99), isAdd: fc.boolean() }), { maxLength: 300 })
    fc.assert(
      fc.property(fc.integer({ min: 100, max: 120 }), changes, (count, steps) => {
        const bits = new Bitfield(count)
        const set = new Set<number>()
        for (const { index, isAdd } of steps) {
          if (isAdd) expect(bits.add(index)).toBe(!set.has(index) && set.add(index) === set)
          else expect(bits.remove(index)).toBe(set.delete(index))
        }
        expect(bits.held).toBe(set.size)
        expect([...bits.runs()]).toEqual(asRuns([...set]))
        expect([...bits.runs()].flatMap(([first, length]) => Array.from({ length }, (_, i) => first + i))).toEqual(
          [...set].sort((x, y) => x - y),
        )
      }),
      SEED,
    )
  })

  it('is full when all positions are held, the last odd ones too', () => {
    const bits = new Bitfield(11)
    for (let i = 0; i < 11; i++) {
      expect(bits.isFull).toBe(false)
      bits.add(i)
    }
    expect(bits.isFull).toBe(true)
    expect([...bits.runs()]).toEqual([[0, 11]])
  })

  it('gives pages highest bit first, as a copy, with spare bits 0', () => {
    const bits = new Bitfield(20)
    for (const i of [0, 7, 8, 19]) bits.add(i)
    expect([...bits.page(0, 2)]).toEqual([0b1000_0001, 0b1000_0000])
    const last = bits.page(16, 100)
    expect([...last]).toEqual([0b0001_0000])
    last[0] = 0xff
    expect(bits.has(16)).toBe(false)
  })
})

const treeOf = (shape: DagShape): ShareDag => ({ shape }) as ShareDag // an item map looks at the shape alone

describe('the numbering of blocks', () => {
  it('knows one item before the shape is known: the root', () => {
    expect(new ItemMap(0x70, null).placeOf(0)).toEqual({ level: 255, index: 0 })
    expect(new ItemMap(0x55, null).placeOf(0)).toEqual({ level: 0, index: 0 })
    expect(new ItemMap(0x70, null).itemCount).toBe(1)
  })

  it.each([1, 2, 1024, 1025, 3000, 1024 * 1024 + 5])(
    'gives every leaf and inner node of a share of %i blocks a number of its own',
    (blocks) => {
      const shape = shapeOf(blocks * FORMAT.blockBytes)
      const map = new ItemMap(0x70, treeOf(shape))
      const inner = Array.from({ length: Math.max(0, shape.depth - 1) }, (_, i) => nodeCount(shape, i + 1))
      expect(map.itemCount).toBe(blocks + inner.reduce((sum, count) => sum + count, 0))
      const places = [0, blocks - 1].map((index) => ({ level: 0, index }))
      for (const [i, count] of inner.entries()) places.push({ level: i + 1, index: 0 }, { level: i + 1, index: count - 1 })
      for (const place of places) expect(map.placeOf(map.itemOf(place.level, place.index))).toEqual(place)
      let next = blocks
      for (const [i, count] of inner.entries()) for (let index = 0; index < count; index++) expect(map.itemOf(i + 1, index)).toBe(next++)
      expect(() => map.placeOf(map.itemCount)).toThrow(RangeError)
    },
  )
})

describe('waiting for a number', () => {
  it('wakes those who wait for it, once, and nobody else', async () => {
    const waiters = new Waiters()
    const woken: string[] = []
    const signal = new AbortController().signal
    const all = [
      waiters.wait(1, signal).then(() => woken.push('one')),
      waiters.wait(1, signal).then(() => woken.push('one too')),
      waiters.wait(2, signal).then(() => woken.push('two')),
    ]
    waiters.wake(1)
    await Promise.all(all.slice(0, 2))
    expect(woken).toEqual(['one', 'one too'])
    waiters.wakeAll()
    await all[2]
    expect(woken).toEqual(['one', 'one too', 'two'])
  })

  it('ends with the reason of its signal, at once when that has fired already, and takes its listener back', async () => {
    const waiters = new Waiters()
    const stopped = new AbortController()
    const removed = vi.spyOn(stopped.signal, 'removeEventListener')
    const waiting = waiters.wait(7, stopped.signal)
    const other = waiters.wait(7, new AbortController().signal)
    stopped.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    expect(removed).toHaveBeenCalled()
    expect(() => waiters.wait(7, stopped.signal)).toThrow('enough')
    waiters.failAll(new Error('all over'))
    await expect(other).rejects.toThrow('all over')
  })
})

/** A link that only remembers what it was told to tell. */
function claimOf(init: Partial<Claim> = {}): { claim: Claim; told: Have[]; urgent: boolean[] } {
  const told: Have[] = []
  const urgent: boolean[] = []
  const sendHave = (have: Have, isUrgent = true): void => {
    told.push(have)
    urgent.push(isUrgent)
  }
  const link = { sendHave } as unknown as PeerLink // the teller uses nothing else
  return { claim: { link, hasAll: false, knowsShape: true, toldAll: false, told: 0, hasNodes: false, ...init }, told, urgent }
}

describe('telling what is held', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  const holding = (held: number[], count = 40): Holdings & { isComplete: boolean } => {
    const leaves = new Bitfield(count)
    for (const index of held) leaves.add(index)
    return { leaves, knowsShape: () => true, isComplete: leaves.isFull, isTold: (_, index) => index === 9 }
  }

  it('tells positions only to a peer that knows the shape, and nothing before it is known here', () => {
    const [plain, blank] = [claimOf(), claimOf({ knowsShape: false })]
    const teller = new HaveTeller(new Map(), holding([3]))
    teller.tellAll(plain.claim)
    teller.tellAll(blank.claim)
    expect(plain.told).toEqual([{ kind: 'bitmap', first: 0, bits: Uint8Array.of(0b0001_0000, 0, 0, 0, 0) }])
    expect(blank.told).toEqual([{ kind: 'shape' }])
    const early = claimOf()
    new HaveTeller(new Map(), { ...holding([]), knowsShape: () => false }).tellAll(early.claim)
    expect(early.told).toEqual([])
  })

  it('gathers news for a moment, and passes over peers that have all or were told all', () => {
    const [some, seeder] = [claimOf(), claimOf({ hasAll: true })]
    const claims = new Map([
      ['some', some.claim],
      ['seeder', seeder.claim],
    ])
    const teller = new HaveTeller(claims, holding([1, 2, 9]))
    for (const index of [9, 1, 2]) teller.note(index)
    expect(some.told).toEqual([])
    vi.runAllTimers()
    expect(some.told).toEqual([
      { kind: 'range', first: 1, count: 2 },
      { kind: 'range', first: 9, count: 1 },
    ])
    expect(some.urgent).toEqual([true, false]) // it has 9 itself
    expect(seeder.told).toEqual([])
  })

  it('says "all" once when the last block has come, and many scattered ones as a bitmap', () => {
    const { claim, told } = claimOf()
    const teller = new HaveTeller(new Map([['p', claim]]), holding([0, 2, 4, 6, 8, 10, 12]))
    for (const index of [0, 2, 4, 6, 8, 10, 12]) teller.note(index)
    vi.runAllTimers()
    expect(told.map(({ kind }) => kind)).toEqual(['bitmap'])
    const full = claimOf()
    const done = new HaveTeller(new Map([['p', full.claim]]), holding([0, 1], 2))
    done.note(1)
    vi.runAllTimers()
    done.note(0)
    vi.runAllTimers()
    expect(full.told).toEqual([{ kind: 'all' }])
  })

  it('tells of a block that was lost and is back, and tells a peer that turns out to lack something what is here', () => {
    const some = claimOf()
    const all = holding([0, 1], 2)
    const teller = new HaveTeller(new Map([['some', some.claim]]), all)
    teller.tellAll(some.claim)
    teller.lost()
    teller.note(1)
    vi.runAllTimers()
    expect(some.told).toEqual([{ kind: 'all' }, { kind: 'all' }])
    const seeder = claimOf({ hasAll: true })
    const half = new HaveTeller(new Map([['seeder', seeder.claim]]), holding([0], 2))
    half.lacks(seeder.claim)
    half.lacks(seeder.claim)
    expect(seeder.told.map(({ kind }) => kind)).toEqual(['bitmap'])
  })

  it('leaves no timer behind when it is closed', () => {
    const teller = new HaveTeller(new Map(), holding([]))
    teller.note(1)
    teller.close()
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('serving', () => {
  it('the end of a block for a link that was replaced says nothing of the block on its way to the new one', async () => {
    const reads: { index: number; arrive: (bytes: Uint8Array) => void }[] = []
    const uploads = new Uploads({ log: silentLog, now: () => 0, groupPrivate: false, isExempt: () => false })
    const share = {
      cid: { text: 'share' },
      dag: null,
      read: (_level: number, index: number) => new Promise<Uint8Array>((arrive) => reads.push({ index, arrive })),
    } as unknown as LiveShare
    const newLink = () => ({ remote: { peerId: 'p', address: '/ip4/127.0.0.1/tcp/1' }, serve: async () => false }) as unknown as PeerLink
    const [old, link] = [newLink(), newLink()]
    uploads.join(share, old, true)
    uploads.requested(share, old, 0, 1)
    uploads.leave(share, old)
    uploads.join(share, link, true)
    uploads.requested(share, link, 0, 2)
    uploads.requested(share, link, 0, 3)
    expect(reads.map(({ index }) => index)).toEqual([1, 2])
    reads[0]!.arrive(new Uint8Array(1))
    await new Promise((resolve) => setImmediate(resolve))
    expect(reads.map(({ index }) => index)).toEqual([1, 2])
    reads[1]!.arrive(new Uint8Array(1))
    await vi.waitFor(() => expect(reads.map(({ index }) => index)).toEqual([1, 2, 3]))
    uploads.stop()
  })
})

describe('serving a block that cannot be read', () => {
  const events: string[] = []
  const link = {
    remote: { peerId: 'p', address: '/ip4/127.0.0.1/tcp/1' },
    serve: async () => events.push('served') > 0,
    absent: () => events.push('not here'),
    goodbye: async () => void events.push('goodbye'),
  } as unknown as PeerLink

  async function ask(failures: number, code: FileCode): Promise<string[]> {
    events.length = 0
    let left = failures
    const read = async (): Promise<Uint8Array> => {
      if (left-- > 0) throw new FileError(code, 'cannot be read')
      return new Uint8Array(1)
    }
    const uploads = new Uploads({ log: silentLog, now: () => 0, groupPrivate: false, isExempt: () => false, readAgainMs: 1 })
    const share = { cid: { text: 'share' }, dag: null, read } as unknown as LiveShare
    uploads.join(share, link, true)
    uploads.requested(share, link, 0, 1)
    await vi.waitFor(() => expect(events).toHaveLength(1))
    uploads.stop()
    return [...events]
  }

  it('for now is tried again, and then the peer is sent for a new session; only of what is damaged it is told that it is not here', async () => {
    expect(await ask(UPLOAD.readsMax - 1, 'IO')).toEqual(['served'])
    expect(await ask(UPLOAD.readsMax, 'IO')).toEqual(['goodbye'])
    expect(await ask(1, 'CORRUPT')).toEqual(['not here'])
  })
})

describe('pins', () => {
  it('hold until their job ends, and past that while a sweep runs', async () => {
    const digest = new Uint8Array(createHash('sha256').update(randomBytes(8)).digest())
    const pins = new Pins()
    const job = pins.open()
    job.add(digest)
    expect(pins.has(digest)).toBe(true)
    await pins.sweep(async () => {
      job.release()
      expect(pins.has(digest)).toBe(true)
    })
    expect(pins.has(digest)).toBe(false)
  })
})

describe('the swarm machine, when a job ends or a block is lost', () => {
  const limits = { ...SWARM, blockMs: WAITS.blockMs, itemBytes: FORMAT.blockBytes }

  it('calls off what was asked, and asks again when it is wanted again', () => {
    const swarm = new Swarm(20, limits, () => 0)
    swarm.handle({ type: 'peerJoined', peer: 'p' }, 0)
    swarm.handle({ type: 'peerHas', peer: 'p', first: 0, count: 20 }, 0)
    const asked = swarm.handle({ type: 'want', first: 0, count: 20, priority: 2 }, 0)
    expect(asked.length).toBeGreaterThan(0)
    const off = swarm.handle({ type: 'unwantAll' }, 1)
    expect(off).toEqual(asked.map((action) => ({ ...action, type: 'cancel' })))
    expect([swarm.inFlight(), swarm.wantedMissing, swarm.nextTimeout()]).toEqual([[], 0, undefined])
    swarm.checkInvariants()
    expect(swarm.handle({ type: 'want', first: 4, count: 1, priority: 0 }, 2)).toEqual([{ type: 'request', peer: 'p', item: 4 }])
    swarm.checkInvariants()
  })

  it('lets a block that is being checked come in though nobody wants it any more', () => {
    const swarm = new Swarm(4, limits, () => 0)
    swarm.handle({ type: 'peerJoined', peer: 'p' }, 0)
    swarm.handle({ type: 'peerHas', peer: 'p', first: 0, count: 4 }, 0)
    swarm.handle({ type: 'want', first: 0, count: 4, priority: 2 }, 0)
    swarm.handle({ type: 'received', peer: 'p', item: 0 }, 1)
    swarm.handle({ type: 'unwantAll' }, 2)
    swarm.checkInvariants()
    swarm.handle({ type: 'verified', peer: 'p', item: 0 }, 3)
    expect(swarm.has(0)).toBe(true)
    swarm.checkInvariants()
  })

  it('asks again for a block that was had and lost', () => {
    const swarm = new Swarm(2, limits, () => 0)
    swarm.handle({ type: 'have', first: 0, count: 2 }, 0)
    swarm.handle({ type: 'want', first: 0, count: 2, priority: 1 }, 0)
    swarm.handle({ type: 'peerJoined', peer: 'p' }, 0)
    swarm.handle({ type: 'peerHas', peer: 'p', first: 0, count: 2 }, 0)
    expect(swarm.handle({ type: 'lost', item: 1 }, 1)).toEqual([])
    expect(swarm.handle({ type: 'want', first: 1, count: 1, priority: 1 }, 2)).toEqual([{ type: 'request', peer: 'p', item: 1 }])
    swarm.handle({ type: 'received', peer: 'p', item: 1 }, 3)
    swarm.handle({ type: 'verified', peer: 'p', item: 1 }, 4)
    expect(swarm.handle({ type: 'lost', item: 1 }, 5)).toEqual([{ type: 'request', peer: 'p', item: 1 }])
    swarm.checkInvariants()
  })
})
