/** What counts as the local network, and what follows for a link there. */
import { describe, expect, it } from 'vitest'
import { isLocalNetwork, ownSubnets } from '../../node/network/local-network.ts'
import { RateLimiter } from '../../node/network/rate-limiter.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'

const SUBNETS = ['192.168.7.20/24', 'fe80::1/64', 'fd00:1::5/64', '203.0.114.7/24']
const PEER = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8'
const isLocal = (address: string): boolean => isLocalNetwork(address, () => SUBNETS)

describe('the local network', () => {
  it.each([
    ['/ip4/127.0.0.1/tcp/1', true],
    ['/ip6/::1/tcp/1', true],
    ['/ip4/192.168.7.99/tcp/1', true],
    ['/ip6zone/eth0/ip6/fe80::77/tcp/1', true],
    ['/ip6/fd00:1::6/tcp/1', true],
    ['/ip6/::ffff:192.168.7.3/tcp/1', true],
    // Private, but not here: that leads away, as through a VPN.
    ['/ip4/192.168.8.99/tcp/1', false],
    ['/ip4/10.0.0.1/tcp/1', false],
    ['/ip6/fd00:2::6/tcp/1', false],
    // Neighbours of a server have public addresses: that is nobody's home network.
    ['/ip4/203.0.114.8/tcp/1', false],
    ['/ip4/8.8.8.8/tcp/1', false],
    ['/dns4/localhost/tcp/1', false],
    [`/ip4/127.0.0.1/tcp/1/p2p/${PEER}/p2p-circuit`, false],
  ])('%s: %s', (address, expected) => {
    expect(isLocal(address)).toBe(expected)
  })

  it('asks this machine for its subnets', () => {
    for (const subnet of ownSubnets()) expect(subnet).toMatch(/^[0-9a-f.:]+\/\d+$/)
  })
})

describe('a link on the local network', () => {
  const block = { wake: () => {} }

  it('takes no tokens and waits for nobody while it is exempt, and is part of the rate', () => {
    const limiter = new RateLimiter({ uploadBytesPerSecond: 1024, downloadBytesPerSecond: 1024 }, () => 0)
    limiter.isLanExempt = true
    const lan = limiter.lan()
    for (let i = 0; i < 100; i++) expect(lan.mayStartFrame(block, lan.beginBlock(), 60_000)).toBe(true)
    expect([lan.dataBytesMax > limiter.dataBytesMax, limiter.state().up.bytes]).toEqual([true, 100 * 60_004])
    limiter.isLanExempt = false
    expect([lan.mayStartFrame(block, lan.beginBlock(), 60_000), lan.dataBytesMax]).toEqual([false, limiter.dataBytesMax])
    limiter.stop()
  })

  it('who waits for tokens when links become exempt is woken', () => {
    const limiter = new RateLimiter({ uploadBytesPerSecond: 1024, downloadBytesPerSecond: null }, () => 0)
    let woken = 0
    const waiter = { wake: () => void woken++ }
    expect(limiter.lan().mayStartFrame(waiter, limiter.beginBlock(), 60_000)).toBe(false)
    limiter.isLanExempt = true
    expect(woken).toBe(1)
    limiter.stop()
  })

  it('gets credit without pace from the same memory, and does not take a share of the pace', () => {
    const limiter = new RateLimiter({ uploadBytesPerSecond: null, downloadBytesPerSecond: 4096 }, () => 0)
    const budget = new CreditBudget(1000, limiter.credit)
    let isExempt = true
    const lane = budget.lane(() => isExempt)
    const shareBefore = budget.shareBytes
    lane.countAsked(1)
    lane.change(600)
    expect([lane.pace, lane.shareBytes, lane.free, budget.free]).toEqual([null, Number.POSITIVE_INFINITY, 400, 400])
    budget.countAsked(1)
    expect(budget.shareBytes).toBe(shareBefore)
    isExempt = false // in the middle of what was asked: what was not counted is not taken off either
    lane.countAsked(-1)
    expect([lane.pace, budget.shareBytes]).toEqual([limiter.credit, shareBefore])
    lane.countAsked(1)
    expect(budget.shareBytes).toBeLessThan(shareBefore)
    isExempt = true
    lane.countAsked(-1)
    expect(budget.shareBytes).toBe(shareBefore)
    limiter.stop()
  })
})
