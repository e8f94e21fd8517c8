/** Under which hosts others see a node, when some of them lie. */
import { describe, expect, it } from 'vitest'
import { ObservedHosts } from '../../node/network/reach/observed-hosts.ts'
import { REACH } from '../../protocol/limits.ts'

const OURS = '91.7.0.2'
const nothingOpen = (): boolean => false

/** Two neighbourhoods that see us at a host. */
function agree(hosts: ObservedHosts, host: string, ...names: string[]): void {
  for (const name of names) hosts.tell(`${name} on ${host}`, `group of ${name}`, host)
}

describe('the hosts under which others see us', () => {
  it('are looked at when two neighbourhoods name them, not when two peers of one do', () => {
    const hosts = new ObservedHosts()
    hosts.tell('p', 'g', OURS)
    hosts.tell('q', 'g', OURS)
    expect(hosts.hosts(nothingOpen, 0)).toEqual([])
    hosts.tell('r', 'h', OURS)
    expect(hosts.hosts(nothingOpen, 0)).toEqual([OURS])
  })

  it('have one word of each peer, the last, while it is connected', () => {
    const hosts = new ObservedHosts()
    hosts.tell('p', 'g', OURS)
    for (let i = 0; i < 100; i++) hosts.tell('q', 'h', `5.9.0.${i}`)
    hosts.tell('r', 'i', '5.9.0.7')
    expect(hosts.hosts(nothingOpen, 0)).toEqual([])
    hosts.tell('s', 'j', '5.9.0.99')
    hosts.forget('s')
    expect(hosts.hosts(nothingOpen, 0)).toEqual([])
    hosts.tell('q', 'h', OURS)
    expect(hosts.hosts(nothingOpen, 0)).toEqual([OURS])
  })

  it('are new only so often', () => {
    const hosts = new ObservedHosts()
    for (let i = 0; i < 4; i++) agree(hosts, `5.9.0.${i}`, 'x', 'y')
    expect(hosts.hosts(nothingOpen, 0)).toHaveLength(REACH.observedPerMinuteMax)
    expect(hosts.hosts(nothingOpen, 59_999)).toHaveLength(REACH.observedPerMinuteMax)
    expect(hosts.hosts(nothingOpen, 60_000)).toHaveLength(2 * REACH.observedPerMinuteMax)
  })

  it('keep the one that is open, whatever anybody says, and lose the one that the fewest name', () => {
    const hosts = new ObservedHosts()
    const isOpen = (host: string): boolean => host === OURS
    agree(hosts, OURS, 'x', 'y')
    expect(hosts.hosts(isOpen, 0)).toEqual([OURS])
    for (const name of ['x', 'y']) hosts.forget(`${name} on ${OURS}`)
    for (let i = 1; i < 9; i++) {
      agree(hosts, `5.9.0.${i}`, ...['x', 'y', 'z', 'u', 'v', 'w', 's', 't', 'r'].slice(0, i + 1))
      hosts.hosts(isOpen, i * 60_000)
    }
    expect(hosts.hosts(isOpen, 600_000)).toEqual([OURS, '5.9.0.6', '5.9.0.7', '5.9.0.8'])
  })

  it('are not pushed out by many peers of one neighbourhood', () => {
    const hosts = new ObservedHosts()
    agree(hosts, OURS, 'x', 'y')
    for (let i = 0; i < 2 * REACH.claimsMax; i++) hosts.tell(`sybil ${i}`, 'one group', `5.9.0.${i % 250}`)
    expect(hosts.hosts(nothingOpen, 0)).toEqual([OURS])
  })
})
