import { describe, expect, it } from 'vitest'
import { SCORE } from '../../protocol/limits.ts'
import { Score } from '../../protocol/swarm/score.ts'

const MINUTE = 60_000

describe('score', () => {
  it('a fatal fault bans the peer for a day and leaves its neighbours alone', () => {
    const score = new Score(SCORE)
    expect(score.strike('liar', 'street', 'fatal', 0)).toEqual([{ kind: 'peer', name: 'liar', untilMs: SCORE.banFatalMs }])
    expect(score.isBanned('liar', 'elsewhere', SCORE.banFatalMs - 1)).toBe(true)
    expect(score.isBanned('neighbour', 'street', 1)).toBe(false)
    expect(score.isBanned('liar', 'street', SCORE.banFatalMs)).toBe(false)
  })

  it('three protocol faults within ten minutes ban for an hour, three within twenty do not', () => {
    const score = new Score(SCORE)
    for (const at of [0, 9 * MINUTE, 18 * MINUTE]) expect(score.strike('clumsy', '', 'protocol', at)).toEqual([])
    expect(score.strike('clumsy', '', 'protocol', 18 * MINUTE)).toEqual([
      { kind: 'peer', name: 'clumsy', untilMs: 18 * MINUTE + SCORE.banMs },
    ])
  })

  it('the third liar behind one address bans the address, so that new identities do not help', () => {
    const score = new Score(SCORE)
    score.strike('a', 'street', 'fatal', 0)
    score.strike('b', 'street', 'fatal', 1)
    expect(score.isBanned('c', 'street', 2)).toBe(false)
    expect(score.strike('c', 'street', 'fatal', 2).map(({ kind }) => kind)).toEqual(['peer', 'group'])
    expect(score.isBanned('newcomer', 'street', 3)).toBe(true)
    expect(score.isBanned('newcomer', '', 3)).toBe(false)
    expect(score.isBanned('newcomer', 'street', 3 + SCORE.banMs)).toBe(false)
  })

  it('a later, shorter ban does not shorten a long one, and the user can lift any', () => {
    const score = new Score(SCORE)
    score.strike('a', '', 'fatal', 0)
    for (let i = 0; i < 3; i++) score.strike('a', '', 'protocol', 1)
    expect(score.bans(1)).toEqual([{ kind: 'peer', name: 'a', untilMs: SCORE.banFatalMs }])
    expect(score.lift('peer', 'a')).toBe(true)
    expect(score.lift('peer', 'a')).toBe(false)
    expect([score.bans(1), score.isBanned('a', '', 1)]).toEqual([[], false])
  })

  it('remembers a bounded number of peers, and forgets the oldest first', () => {
    const score = new Score({ ...SCORE, entriesMax: 100 })
    for (let i = 0; i < 500; i++) {
      score.strike(`p${i}`, `g${i}`, i % 2 === 0 ? 'fatal' : 'protocol', i)
      score.checkInvariants()
    }
    expect(score.bans(500).length).toBe(100)
    expect(score.isBanned('p498', '', 500)).toBe(true)
    expect(score.isBanned('p0', '', 500)).toBe(false)
  })
})
