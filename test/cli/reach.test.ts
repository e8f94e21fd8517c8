import { describe, expect, it } from 'vitest'
import { reachFields } from '../../cli/reach.ts'
import type { AddressReach, ReachResult } from '../../node/control/reach-result.ts'

const address = (verdict: AddressReach['verdict'], reachedBy: number, failedBy: number): AddressReach => ({
  ...{ address: '/ip4/5.9.0.2/tcp/4801', verdict, reachedBy, failedBy },
})
const say = (reach: Partial<ReachResult>): string[] =>
  reachFields({ kind: 'local', addresses: [], relays: [], relaying: null, ...reach }).map((cells) => cells.join(': '))

describe('who can reach a node, in words', () => {
  it('says who and why, for each kind', () => {
    expect(say({ kind: 'open', addresses: [address('open', 2, 0)] })).toEqual([
      'reach: anybody: peers outside have dialled /ip4/5.9.0.2/tcp/4801',
    ])
    expect(say({ kind: 'relayed', addresses: [address('closed', 0, 2)], relays: ['R1', 'R2'] })).toEqual([
      'reach: anybody, through 2 relays; directly whom this node dials, and the local network: 2 peers outside tried to dial this node, in vain',
    ])
    expect(say({ kind: 'relayed', addresses: [address('unknown', 0, 0)], relays: ['R1'] })[0]).toContain('is being found out')
    expect(say({ kind: 'closed' })[0]).toContain('no address of this node is known that could be dialled from outside, and no relay')
    expect(say({ kind: 'checking' })[0]).toContain('not known yet')
    expect(say({})[0]).toContain('the local network at least')
  })

  it('says what is passed on for others, and nothing without a network', () => {
    const relaying = { peers: 3, circuits: 1, bytesToday: 2_097_152, bytesPerDay: 2 ** 32 }
    expect(say({ relaying })[1]).toBe('relaying: 3 peers, 1 connection; 2.00 MiB of 4.00 GiB passed on today')
    expect(reachFields(null)).toEqual([])
  })
})
