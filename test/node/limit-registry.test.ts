/** The table of limits: none forgotten, each counted where it is enforced. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { LimitRegistry } from '../../node/budgets/limit-registry.ts'
import { ProviderTable } from '../../node/network/dht-providers.ts'
import { DialBudget } from '../../node/network/dial-budget.ts'
import { Turns } from '../../node/storage/turns.ts'
import { RemoteError } from '../../protocol/errors.ts'
import { LIMIT_NAMES, LIMITS, LimitCounters, type LimitName } from '../../protocol/limit-table.ts'
import { FORMAT, NETWORK, UPLOAD, WIRE } from '../../protocol/limits.ts'
import { Upload } from '../../protocol/swarm/upload.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import { decodeMessage, ROOT_LEVEL } from '../../protocol/wire/messages.ts'
import { RateQueue } from '../../protocol/wire/rate-queue.ts'
import { Session } from '../../protocol/wire/session.ts'

const ROOT = join(import.meta.dirname, '../..')
const sources = ['node', 'protocol'].flatMap((room) =>
  readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.endsWith('limit-table.ts'))
    .map((path) => readFileSync(join(ROOT, room, path), 'utf8')),
)

/** Where an enforcing place names the limit, or a gauge tells of hits that are counted elsewhere. */
const isHitSomewhere = (name: LimitName): boolean => {
  const named = new RegExp(
    `hit\\??\\.?\\([^)]*'${name}'|#hit\\([^)]*'${name}'|limit: '${name}'|giveWay\\(.*'${name}'|atMost\\(.*'${name}'|^ +${name}: \\{.*hits:`,
    'm',
  )
  return sources.some((text) => named.test(text))
}

describe('the table of limits', () => {
  it('each is counted where it is enforced, or marked as a number that is only stood by', () => {
    const counted = LIMIT_NAMES.filter((name) => LIMITS[name].isCounted)
    expect(counted.filter((name) => !isHitSomewhere(name))).toEqual([])
    expect(LIMIT_NAMES.filter((name) => !LIMITS[name].isCounted && isHitSomewhere(name))).toEqual([])
    expect(counted.length).toBeGreaterThan(30)
  })

  it('shows value, use and hits, those of the user in place of the declared', () => {
    const counters = new LimitCounters()
    counters.hit('jobs')
    counters.hit('jobs')
    counters.hit('leases')
    const rows = new LimitRegistry(counters, {
      jobs: { used: () => 3 },
      leases: { value: () => 7, hits: () => 5 },
      uploadRate: { value: () => null },
      files: { used: () => 1 },
    }).rows()
    const rowOf = (name: LimitName) => rows.find((row) => row.name === name)
    expect(rows.map(({ name }) => name)).toEqual(LIMIT_NAMES)
    expect(rowOf('jobs')).toMatchObject({ value: 64, unit: '', used: 3, hits: 2 })
    expect(rowOf('leases')).toMatchObject({ value: 7, unit: 'bytes', used: null, hits: 6 })
    expect(rowOf('uploadRate')).toMatchObject({ value: null, hits: 0 })
    expect(rowOf('files')).toMatchObject({ value: FORMAT.filesMax, used: 1, hits: null })
  })
})

describe('what a peer runs into says which limit it was', () => {
  const limitOf = (act: () => unknown): LimitName | null | undefined => {
    try {
      act()
    } catch (error) {
      if (error instanceof RemoteError) return error.limit
      throw error
    }
    return undefined
  }
  const session = (): Session =>
    new Session({ now: 0, budget: new CreditBudget(WIRE.creditBytesTotal), saidShape: true, peerKnowsShape: true })
  const received = (one: Session, message: Parameters<Session['handle']>[0]) => one.handle(message, 0)

  it('frames', () => {
    expect(limitOf(() => decodeMessage(new Uint8Array(WIRE.frameBytesMax + 1)))).toBe('frameBytes')
    expect(limitOf(() => decodeMessage(Uint8Array.of(200, ...new Uint8Array(WIRE.skippedBytesMax + 1))))).toBe('skippedBytes')
  })

  it('requests and small frames', () => {
    const flooded = session()
    expect(
      limitOf(() => {
        for (let index = 0; ; index++) received(flooded, { type: 'received', message: { type: 'request', level: 0, index } })
      }),
    ).toBe('requestsQueued')
    const loud = session()
    expect(
      limitOf(() => {
        for (;;) received(loud, { type: 'received', message: { type: 'keepalive' } })
      }),
    ).toBe('controlFrames')
    const telling = session()
    expect(
      limitOf(() => {
        for (;;) received(telling, { type: 'received', message: { type: 'have', have: { kind: 'all' } } })
      }),
    ).toBe('haveFrames')
    const exchanging = session()
    expect(
      limitOf(() => {
        for (;;) received(exchanging, { type: 'received', message: { type: 'pex', peers: [] } })
      }),
    ).toBe('exchangeInterval')
  })

  it('and credit', () => {
    const greedy = session()
    greedy.handle({ type: 'request', level: ROOT_LEVEL, index: 0 }, 0)
    const bytes = new Uint8Array(WIRE.dataBytesMax)
    const total = FORMAT.nodeBytesMax
    expect(
      limitOf(() => {
        greedy.handle({ type: 'received', message: { type: 'data', level: ROOT_LEVEL, index: 0, total, offset: 0, bytes } }, 0)
        throw new RemoteError('FLOOD', 'it had credit for that', { limit: 'credit' })
      }),
    ).toBe('credit')
  })
})

describe('what parts count', () => {
  it('memory that is used up, credit that is all promised, and those who wait for a cap', () => {
    const upload = new Upload({ ...UPLOAD, slotsMin: 8, leaseBytesMax: 2 ** 20, requestsQueuedMax: 64 })
    for (const peer of ['a', 'b']) {
      upload.handle({ type: 'peerJoined', peer, group: '', share: 's', isReachable: true }, 0)
      upload.handle({ type: 'requested', peer, level: 0, index: 0, bytes: 2 ** 20 }, 0)
    }
    expect([upload.leasedBytes, upload.waitsForMemory > 0]).toEqual([2 ** 20, true])
    const credit = new CreditBudget(100)
    for (const change of [60, 60, -100, 90]) credit.change(change)
    expect(credit.timesFull).toBe(2)
    const queue = new RateQueue(1024, 0)
    const waiter = { wake: () => {} }
    queue.take(waiter, 1, 1024, 0)
    queue.take(waiter, 1, 1024, 1)
    expect(queue.waits).toBe(1)
  })

  it('a queue that is full', async () => {
    let full = 0
    const turns = new Turns(1, 1, () => void full++)
    const gate = Promise.withResolvers<void>()
    const never = new AbortController().signal
    const runs = [turns.run(never, () => gate.promise), turns.run(never, async () => {})]
    await expect(turns.run(never, async () => {})).rejects.toMatchObject({ code: 'BUSY' })
    expect([full, turns.waiting]).toEqual([1, 1])
    gate.resolve()
    await Promise.all(runs)
  })

  it('dials and provider records', () => {
    const counters = new LimitCounters()
    const { hit } = counters
    const budget = new DialBudget({ now: () => 0, groupPrivate: true, anyAddress: true, ownSubnets: () => [], hit })
    const address = multiaddr('/ip4/127.0.0.1/tcp/4801')
    for (let i = 0; i < NETWORK.dialsPerHostPerMinuteMax; i++) {
      expect(budget.denies(address)).toBe(false)
      budget.spend(address)
    }
    expect([budget.denies(address), budget.allows(address), counters.of('dialsPerHost')]).toEqual([true, false, 1])
    expect([budget.takeForQuery({ left: 0 }), counters.of('dialsPerQuery')]).toEqual([false, 1])
    const table = new ProviderTable({ now: () => 0, random: () => 0, hit })
    const offer = (peerId: string, group: string | null) => ({ peerId, peer: new Uint8Array(1), addresses: [], group })
    for (let i = 0; i <= NETWORK.providersPerKeyPerGroupMax; i++) table.add('key', offer(`near${i}`, 'g'))
    expect(counters.of('providersPerGroup')).toBe(1)
    for (let i = 0; i < NETWORK.providersPerKeyMax; i++) table.add('key', offer(`far${i}`, null))
    expect(counters.of('providersPerKey')).toBe(NETWORK.providersPerKeyPerGroupMax)
  })
})
