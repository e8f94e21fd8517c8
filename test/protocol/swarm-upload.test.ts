import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { UPLOAD, WIRE } from '../../protocol/limits.ts'
import { Upload, type UploadAction, type UploadEvent } from '../../protocol/swarm/upload.ts'

const BLOCK = 1024 * 1024
const limits = { ...UPLOAD, requestsQueuedMax: WIRE.requestsQueuedMax }

/** A machine and peers that always want more; checked after every event. */
class Yard {
  now = 0
  readonly upload = new Upload(limits)
  readonly active: Extract<UploadAction, { type: 'serve' }>[] = []
  readonly suggested: UploadAction[] = []
  readonly served = new Map<string, number>()
  #index = 0

  feed(event: UploadEvent): UploadAction[] {
    const actions = this.upload.handle(event, this.now)
    this.upload.checkInvariants()
    const serves = actions.filter((action) => action.type === 'serve')
    for (const { peer } of serves) expect(this.active.some((other) => other.peer === peer)).toBe(false)
    this.active.push(...serves)
    this.suggested.push(...actions.filter((action) => action.type === 'suggest'))
    return serves
  }

  join(peer: string, group: string, wishes = 4): void {
    this.feed({ type: 'peerJoined', peer, group, share: 'share', isReachable: true })
    for (let i = 0; i < wishes; i++) this.wish(peer)
  }

  wish(peer: string): UploadAction[] {
    return this.feed({ type: 'requested', peer, level: 0, index: this.#index++, bytes: BLOCK })
  }

  /** What is on its way to a peer is over. */
  finish(peer: string, bytes = BLOCK): UploadAction[] {
    this.active.splice(
      this.active.findIndex((action) => action.peer === peer),
      1,
    )
    return this.feed({ type: 'served', peer, bytes })
  }

  /** The block that was started first is through; its peer asks for another. */
  serveOne(pick = 0, spanMs = 100): void {
    const [{ peer }] = this.active.splice(pick, 1) as [Extract<UploadAction, { type: 'serve' }>]
    this.served.set(peer, (this.served.get(peer) ?? 0) + 1)
    this.now += spanMs
    this.wish(peer)
    this.feed({ type: 'served', peer, bytes: BLOCK })
  }
}

describe('upload', () => {
  it('a sole seeder suggests other leaves to each peer, more when one was asked for, and none when somebody else has everything', () => {
    const yard = new Yard()
    for (let i = 0; i < 3; i++) yard.feed({ type: 'peerJoined', peer: `p${i}`, group: '', share: 'share', isReachable: true })
    yard.feed({ type: 'sole', share: 'share', leafCount: 20 })
    const told = yard.suggested.map(({ peer, index }) => `${peer}/${index}`)
    expect(told.length).toBe(12)
    expect(new Set(yard.suggested.map(({ index }) => index)).size).toBe(12)
    yard.feed({ type: 'requested', peer: 'p1', level: 0, index: 4, bytes: BLOCK })
    yard.feed({ type: 'requested', peer: 'p1', level: 0, index: 5, bytes: BLOCK })
    expect(yard.suggested.length).toBe(13) // the first of them is on its way
    yard.feed({ type: 'sole', share: 'share', leafCount: 0 })
    yard.feed({ type: 'peerJoined', peer: 'p4', group: '', share: 'share', isReachable: true })
    expect(yard.suggested.length).toBe(13)
  })

  it('who passes over what was suggested to it is told of other leaves', () => {
    const yard = new Yard()
    yard.feed({ type: 'peerJoined', peer: 'p0', group: '', share: 'share', isReachable: true })
    yard.feed({ type: 'sole', share: 'share', leafCount: 40 })
    for (let index = 30; index < 35; index++) yard.feed({ type: 'requested', peer: 'p0', level: 0, index, bytes: BLOCK })
    expect(yard.suggested.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    yard.feed({ type: 'requested', peer: 'p0', level: 0, index: 8, bytes: BLOCK })
    expect(yard.suggested.length).toBe(9) // that one counts until it has left
  })

  it('who cannot be dialled gets up to twice as much', () => {
    const yard = new Yard()
    for (let i = 0; i < 10; i++) {
      yard.feed({ type: 'peerJoined', peer: `p${i}`, group: '', share: 'share', isReachable: i >= 5 })
      for (let k = 0; k < 4; k++) yard.wish(`p${i}`)
    }
    for (let i = 0; i < 1_500; i++) yard.serveOne()
    const sum = (from: number): number =>
      Array.from({ length: 5 }, (_, i) => yard.served.get(`p${from + i}`) ?? 0).reduce((a, b) => a + b, 0)
    expect(sum(0) / sum(5)).toBeGreaterThan(1.6)
    expect(sum(0) / sum(5)).toBeLessThan(2.2)
  })

  it('begins with three blocks at a time, one a peer', () => {
    const yard = new Yard()
    for (let i = 0; i < 20; i++) yard.join(`p${i}`, `group${i}`)
    expect(yard.active.length).toBe(UPLOAD.slotsMin + 1)
  })

  it('serves more at once only as long as that carries more: two on one slow line, eight to many slow readers', () => {
    const line = new Yard()
    for (let i = 0; i < 20; i++) line.join(`p${i}`, `group${i}`)
    for (let i = 0; i < 400; i++) line.serveOne(0, 1_700) // one after another, whatever number is on its way
    expect(line.active.length).toBeLessThanOrEqual(UPLOAD.slotsMin + 1)
    const readers = new Yard()
    for (let i = 0; i < 20; i++) readers.join(`p${i}`, `group${i}`)
    for (let i = 0; i < 400; i++) readers.serveOne(0, 1_700 / readers.active.length) // each reader at its own pace
    expect(readers.active.length).toBeGreaterThanOrEqual(UPLOAD.slotsMax - 1)
  })

  it('where it is the only seeder, serves what never left before anything else, and again what did not arrive', () => {
    const yard = new Yard()
    yard.feed({ type: 'sole', share: 'share', leafCount: 100 })
    for (let i = 0; i < 6; i++) yard.feed({ type: 'peerJoined', peer: `p${i}`, group: '', share: 'share', isReachable: true })
    const ask = (peer: string, index: number) => yard.feed({ type: 'requested', peer, level: 0, index, bytes: BLOCK })
    for (let i = 0; i < 5; i++) ask(`p${i}`, 7) // all want the same
    ask('p5', 8)
    ask('p5', 9)
    expect(yard.active.map(({ index }) => index)).toEqual([7, 7, 7])
    yard.finish('p0')
    expect(yard.active.at(-1)).toEqual({ type: 'serve', peer: 'p5', level: 0, index: 8 })
    yard.finish('p5', BLOCK / 2)
    expect(yard.active.at(-1)).toEqual({ type: 'serve', peer: 'p5', level: 0, index: 9 })
    ask('p0', 8)
    yard.finish('p1')
    expect(yard.active.at(-1)).toEqual({ type: 'serve', peer: 'p0', level: 0, index: 8 })
  })

  it('gives thirty honest peers and a crowd of fifty behind one address what thirty-one neighbours would get', () => {
    const yard = new Yard()
    for (let i = 0; i < 50; i++) yard.join(`thief${i}`, 'one address')
    for (let i = 0; i < 30; i++) yard.join(`honest${i}`, `group${i}`)
    for (let i = 0; i < 3_100; i++) yard.serveOne()
    const sum = (prefix: string) =>
      [...yard.served].filter(([peer]) => peer.startsWith(prefix)).reduce((total, [, count]) => total + count, 0)
    // 97 of 100 by bytes, less what the optimistic slot gives to whoever waits longest.
    expect(sum('honest')).toBeGreaterThan(3_100 * 0.8)
    for (let i = 0; i < 50; i++) expect(yard.served.get(`thief${i}`), `thief${i}`).toBeGreaterThan(0)
  })

  it('peers of one group share what the group gets, and one that was away does not catch up at the cost of others', () => {
    const yard = new Yard()
    for (let i = 0; i < 12; i++) yard.join(`p${i}`, '')
    yard.join('late', '', 0)
    for (let i = 0; i < 1_200; i++) yard.serveOne()
    for (let i = 0; i < 4; i++) yard.wish('late')
    yard.served.clear()
    for (let i = 0; i < 1_300; i++) yard.serveOne()
    for (const [peer, count] of yard.served) expect(Math.abs(count - 100), peer).toBeLessThan(15)
  })

  it('slow readers keep their blocks but not the slots, and never more than the memory for them', () => {
    const yard = new Yard()
    for (let i = 0; i < 60; i++) yard.join(`slow${i}`, `group${i}`)
    for (let now = yard.upload.nextTimeout(); now !== undefined && now < 200_000; now = yard.upload.nextTimeout()) {
      yard.now = now
      yard.feed({ type: 'tick' })
    }
    expect(yard.active.length).toBe(UPLOAD.leaseBytesMax / BLOCK)
    expect(yard.upload.leasedBytes).toBe(UPLOAD.leaseBytesMax)
  })

  it('whoever takes nothing holds no slot, so a crowd of them does not keep out the one that does', () => {
    const yard = new Yard()
    for (let i = 0; i < 30; i++) yard.join(`mute${i}`, '')
    yard.join('honest', '')
    for (let i = 0; i < 20 && !yard.active.some(({ peer }) => peer === 'honest'); i++) {
      yard.now += UPLOAD.stuckMs
      for (const { peer } of [...yard.active]) yard.feed({ type: 'stuck', peer })
    }
    expect(yard.active.map(({ peer }) => peer)).toContain('honest')
  })

  it('whoever was sent away for it comes last, and gets half of the memory at most', () => {
    const yard = new Yard()
    for (let i = 0; i < 40; i++) {
      yard.feed({ type: 'peerJoined', peer: `last${i}`, group: '', share: 'share', isReachable: true, isLast: true })
      yard.wish(`last${i}`)
      for (const { peer } of [...yard.active]) yard.feed({ type: 'stuck', peer })
    }
    expect(yard.upload.leasedBytes).toBe(UPLOAD.leaseBytesMax / 2)
    yard.join('honest', '')
    expect(yard.active.at(-1)?.peer).toBe('honest')
    for (let i = 0; i < 3; i++) yard.finish('honest')
    expect(yard.active.at(-1)?.peer).toBe('honest')
  })

  it('does not start what was cancelled, and forgets a peer that left', () => {
    const yard = new Yard()
    for (let i = 0; i < 4; i++) yard.feed({ type: 'peerJoined', peer: `p${i}`, group: '', share: 'share', isReachable: true })
    for (let i = 0; i < 4; i++) yard.feed({ type: 'requested', peer: `p${i}`, level: 0, index: i, bytes: BLOCK })
    yard.feed({ type: 'cancelled', peer: 'p3', level: 0, index: 3 })
    expect(yard.finish('p0')).toEqual([])
    yard.feed({ type: 'requested', peer: 'p3', level: 1, index: 3, bytes: 1000 })
    expect(yard.active.at(-1)).toEqual({ type: 'serve', peer: 'p3', level: 1, index: 3 })
    yard.feed({ type: 'peerLeft', peer: 'p3' })
    expect(yard.finish('p3')).toEqual([])
  })

  it('whatever comes, invariants hold and every wish of a peer that stays is served in the end', () => {
    const step = fc.record({ peer: fc.integer({ min: 0, max: 11 }), kind: fc.integer({ min: 0, max: 9 }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const yard = new Yard()
        const there = new Set<string>()
        let [asked, done] = [0, 0]
        const finish = (at: number): void => {
          const [{ peer }] = yard.active.splice(at, 1) as [Extract<UploadAction, { type: 'serve' }>]
          done++
          yard.feed({ type: 'served', peer, bytes: BLOCK })
        }
        for (const { peer: number, kind } of steps) {
          const peer = `p${number}`
          yard.now += 1_000
          if (!there.has(peer)) {
            there.add(peer)
            yard.join(peer, `group${number % 3}`, 0)
          } else if (kind < 6) {
            asked++
            yard.wish(peer)
          } else if (yard.active.length > 0) finish(kind % yard.active.length)
        }
        while (yard.active.length > 0) finish(0)
        expect(done).toBe(asked)
      }),
      { seed: 3, numRuns: 100, examples: [] },
    )
  })
})
