/** Addresses in links: which are written into one, and that one alone is enough to find the seeder. */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { JobEvent } from '../../node/control/api.ts'
import { linkHints } from '../../node/jobs/link-hints.ts'
import { parseLink } from '../../protocol/link.ts'
import { get, Nodes, patience } from '../kit/nodes.ts'
import { compareTrees } from '../kit/trees.ts'
import { nodePrimitives } from '../primitives-node.ts'

const SELF = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'
const OTHER = '12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X'
const node = (...addresses: string[]) => ({ peerId: SELF, addresses: () => addresses.map((address) => `${address}/p2p/${SELF}`) })

describe('hints of a link', () => {
  it('are the addresses given, with the own peer id where none is named', () => {
    expect(linkHints(['/ip4/5.9.0.2/tcp/4801', `/ip6/2a01:4f8::2/tcp/443/p2p/${OTHER}`], node())).toEqual([
      `/ip4/5.9.0.2/tcp/4801/p2p/${SELF}`,
      `/ip6/2a01:4f8::2/tcp/443/p2p/${OTHER}`,
    ])
  })

  it('are of its own first those that work from afar, then relayed ones, only where there is neither those of the local network, and four at most', () => {
    const relayed = `/ip4/62.4.0.2/tcp/4801/p2p/${OTHER}/p2p-circuit`
    const own = node('/ip4/127.0.0.1/tcp/4801', '/ip4/192.168.1.2/tcp/4801', relayed, '/ip4/5.9.0.2/tcp/4801')
    expect(linkHints(['own'], own)).toEqual([`/ip4/5.9.0.2/tcp/4801/p2p/${SELF}`, `${relayed}/p2p/${SELF}`])
    const atHome = node('/ip4/127.0.0.1/tcp/4801', '/ip4/192.168.1.2/tcp/4801')
    expect(linkHints(['own'], atHome)).toEqual([`/ip4/192.168.1.2/tcp/4801/p2p/${SELF}`])
    expect(linkHints(['own'], node('/ip4/127.0.0.1/tcp/4801'))).toEqual([`/ip4/127.0.0.1/tcp/4801/p2p/${SELF}`])
    const many = node(...Array.from({ length: 9 }, (_, i) => `/ip4/5.9.0.${i + 2}/tcp/4801`))
    expect(linkHints(['own'], many)).toHaveLength(4)
    expect(linkHints(['own', '/ip4/77.1.0.2/tcp/4801'], many)[0]).toBe(`/ip4/77.1.0.2/tcp/4801/p2p/${SELF}`)
  })

  it.each([
    ['/dns4/seed.example/tcp/4801'],
    ['/ip4/5.9.0.2/tcp/22'],
    ['/ip4/5.9.0.2'],
    ['/ip4/5.9.0.2/tcp/99999'],
    ['/ip4/5.9.0.2/tcp/4801/p2p/nobody'],
  ])('refuses %s', (address) => {
    expect(() => linkHints([address], node())).toThrow(expect.objectContaining({ code: 'BAD_ADDRESS' }))
  })

  it('refuses too many, and own ones where there are none', () => {
    const five = Array.from({ length: 5 }, (_, i) => `/ip4/5.9.0.${i + 2}/tcp/4801`)
    expect(() => linkHints(five, node())).toThrow(expect.objectContaining({ code: 'BAD_ADDRESS' }))
    expect(() => linkHints(['own'], node())).toThrow(expect.objectContaining({ code: 'BAD_ADDRESS' }))
  })

  it('are enough to find the seeder: the getter knows nobody', async () => {
    const nodes = await Nodes.create()
    try {
      const a = await nodes.node('a')
      const b = await nodes.node('b')
      const file = nodes.path('file')
      await writeFile(file, randomBytes(2_000_000))
      const warnings: string[] = []
      const warned = (event: JobEvent): void => void (event.type === 'warning' && warnings.push(event.message))
      const { link } = await a.api.share({ paths: [file], scope: 'lineage', name: null, hints: ['own'] }, warned, patience())
      expect(warnings).toEqual([expect.stringContaining('local network only')])
      const { peers } = await parseLink(nodePrimitives, link)
      expect(peers).toEqual(a.addresses())
      const out = nodes.path('out')
      await mkdir(out)
      await get(b, link, out)
      expect((await compareTrees(file, join(out, 'file'))).differences).toEqual([])
      const [peer] = await b.api.peers(patience())
      expect(peer?.shares[0]?.source).toBe('hint')
    } finally {
      await nodes.clear()
    }
  })
})
