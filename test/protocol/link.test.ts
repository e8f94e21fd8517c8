/** Links: what is written is read back, and whatever was damaged is refused (rows L1 to L5). */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatCid, parseCid, RAW, rendezvousDigest } from '../../protocol/cid.ts'
import { type FormatCode, FormatError } from '../../protocol/errors.ts'
import { formatLink, type Link, parseLink } from '../../protocol/link.ts'
import { Secret } from '../../protocol/secret.ts'
import { nodePrimitives as p } from '../primitives-node.ts'
import { map, openForged } from './forge.ts'

const CID = formatCid(RAW, new Uint8Array(32).fill(0x5a))
const PEER = '/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA'
const BARE: Link = { cid: CID, readKey: new Secret(new Uint8Array(32).fill(0xc3)), peers: [], vias: [] }
const SHARE = await formatLink(p, BARE)
const SEED_LINK = await formatLink(p, { ...BARE, readKey: null })

async function expectRejected(code: FormatCode, text: string): Promise<void> {
  await expect(parseLink(p, text)).rejects.toMatchObject({ name: 'FormatError', code })
}

describe('links', () => {
  it('carry a CID, a key and every parameter', async () => {
    const link: Link = { ...BARE, path: 'Fotos/été 1,2#3%/ファイル.txt', name: 'a=b&c.txt', peers: [PEER, PEER], vias: [CID.text] }
    const text = await formatLink(p, link)
    expect(text).toMatch(/^[\u0021-\u007e]+$/)
    expect(await parseLink(p, text)).toEqual(link)
    expect((await parseLink(p, text)).readKey!.reveal()).toEqual(BARE.readKey!.reveal())
  })

  it('without a key say nothing but the CID', async () => {
    expect(await formatLink(p, { ...BARE, readKey: null, path: 'secret', name: 'secret' })).toBe(`shoal:${CID.text}`)
    expect(await parseLink(p, SEED_LINK)).toEqual({ ...BARE, readKey: null })
  })

  it('are read from the https form too', async () => {
    const [cid, token] = SHARE.slice('shoal:'.length).split('#') as [string, string]
    expect(await parseLink(p, `https://example.org/open#${cid}.${token},path=a`)).toEqual({ ...BARE, path: 'a' })
    await expectRejected('L2', `https://example.org/open#${cid}.${token.slice(0, -1)}`)
    await expectRejected('L3', `http://example.org/open#${cid}.${token}`)
  })

  it('are refused with one character changed, left out or put in, anywhere', async () => {
    const text = SHARE
    for (let at = 0; at < text.length; at++) {
      const others = ['a', 'b', 'A', 'Z', '0', '1', '2', '7', '8', '-', '_', '=', ' ', '#', ',', '.', '\u00e9', '']
      for (const other of others.filter((character) => character !== text[at])) {
        const changed = text.slice(0, at) + other + text.slice(at + 1)
        await expect(parseLink(p, changed), changed).rejects.toBeInstanceOf(FormatError)
      }
      const doubled = text.slice(0, at) + text[at] + text.slice(at)
      await expect(parseLink(p, doubled), doubled).rejects.toBeInstanceOf(FormatError)
    }
  })

  it('of garbage are refused with FormatError only', async () => {
    const garbage = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string().map((text) => `shoal:${text}`),
      fc.string().map((text) => `${SHARE},${text}`),
    )
    await fc.assert(
      fc.asyncProperty(garbage, async (text) => {
        await expect(parseLink(p, text)).rejects.toBeInstanceOf(FormatError)
      }),
      { seed: 0x5ca1ab1e, numRuns: 500 },
    )
  })
})

describe('what links are refused for', () => {
  const body = CID.text.slice(1)
  it.each<[string, string]>([
    ['nothing', ''],
    ['base58', 'QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG'],
    ['upper case', CID.text.toUpperCase()],
    ['another base', `f${body}`],
    ['the identity hash', `bafkqa${'a'.repeat(53)}`],
    ['another codec', `bafyrei${'a'.repeat(52)}`],
    ['a longer digest', `${CID.text}a`],
    ['58 characters', CID.text.slice(0, -1)],
    ['spare bits in its last character', `${CID.text.slice(0, -1)}${CID.text.endsWith('a') ? 'b' : 'z'}`],
    ['another hash function in the same length', `bafkreiz${'a'.repeat(51)}`],
  ])('L1 rejects a CID of %s', async (_what, text) => {
    expect(() => parseCid(text)).toThrow(expect.objectContaining({ code: 'L1' }))
    await expectRejected('L1', `shoal:${text}`)
    await expectRejected('L1', SHARE.replace(CID.text, text))
  })

  it('L2 rejects a token that is short, long, of other characters, or does not match the CID', async () => {
    await expectRejected('L2', `shoal:${CID.text}#`)
    await expectRejected('L2', SHARE.slice(0, -1))
    await expectRejected('L2', `${SHARE}A`)
    await expectRejected('L2', `${SHARE.slice(0, -1)}+`)
    await expectRejected('L2', SHARE.replace(CID.text, formatCid(RAW, new Uint8Array(32)).text))
    await expectRejected('L2', SHARE.replace(CID.text, formatCid(0x70, CID.digest).text))
  })

  it.each<[string, string]>([
    ['an unknown type digit', SHARE.replace('#1', '#2')],
    ['another scheme', SHARE.replace('shoal:', 'Shoal:')],
    ['an unknown parameter', `${SHARE},color=red`],
    ['a parameter without a value', `${SHARE},path`],
    ['an empty value', `${SHARE},path=`],
    ['nothing behind a comma', `${SHARE},`],
    ['two paths', `${SHARE},path=a,path=b`],
    ['two names', `${SHARE},name=a,name=b`],
    ['five peers', SHARE + `,peer=${PEER}`.repeat(5)],
    ['three vias', SHARE + `,via=${CID.text}`.repeat(3)],
    ['a lower-case escape', `${SHARE},path=%c3%a9`],
    ['half an escape', `${SHARE},path=a%C`],
    ['an escape of no UTF-8', `${SHARE},path=%FF`],
    ['a value not in NFC', `${SHARE},path=e%CC%81`],
    ['a space', `${SHARE},path=a b`],
    ['a peer that is no multiaddr', `${SHARE},peer=example.org`],
    ['a peer without a peer ID', `${SHARE},peer=/ip4/192.0.2.7/tcp/4001`],
    ['a peer with something after its ID', `${SHARE},peer=${PEER}/ws`],
    ['a peer with an unknown protocol', `${SHARE},peer=/unix/a/p2p/${PEER.split('/').at(-1)}`],
    ['a peer with an impossible port', `${SHARE},peer=${PEER.replace('4001', '65536')}`],
    ['a peer with an impossible address', `${SHARE},peer=${PEER.replace('192', '392')}`],
    ['over 8192 characters', `${SHARE},path=${'a/'.repeat(4100)}a`],
  ])('L3 rejects %s', (_what, text) => expectRejected('L3', text))

  it.each([
    'path=../a',
    'path=/a',
    'path=a/',
    'path=a//b',
    'path=a%5Cb',
    'path=%00',
    'path=.',
    'name=a/b',
    'name=..',
    'name=a%E2%80%AEtxt',
    `name=${'a'.repeat(256)}`,
  ])('L4 rejects %s', (param) => expectRejected('L4', `${SHARE},${param}`))

  it('L4 rejects a path or name that would not be read back, when writing', async () => {
    for (const bad of [{ path: '..' }, { name: 'a/b' }]) {
      await expect(formatLink(p, { ...BARE, ...bad })).rejects.toMatchObject({ code: 'L4' })
    }
    await expect(formatLink(p, { ...BARE, peers: ['nowhere'] })).rejects.toMatchObject({ code: 'L3' })
  })

  it('L4 rejects a name for a share that is not one single file', async () => {
    const share = (groups: [string, [string, number, number[][]][]][], f: number) =>
      openForged({ root: () => map({ c: [0, 0, 0], f, k: new Uint8Array(0), p: groups, s: 0, v: 1 }) })
    await (await share([['', [['a', 0, []]]]], 1)).checkLinkName('b')
    await (await share([['d', [['a', 0, []]]]], 1)).checkLinkName(undefined)
    await expect((await share([['d', [['a', 0, []]]]], 1)).checkLinkName('b')).rejects.toMatchObject({ code: 'L4' })
    await expect(
      (
        await share(
          [
            ['', [['a', 0, []]]],
            ['d', []],
          ],
          1,
        )
      ).checkLinkName('b'),
    ).rejects.toMatchObject({ code: 'L4' })
    await expect(
      (
        await share(
          [
            [
              '',
              [
                ['a', 0, []],
                ['b', 0, []],
              ],
            ],
          ],
          2,
        )
      ).checkLinkName('b'),
    ).rejects.toMatchObject({ code: 'L4' })
    await expect((await share([['', []]], 0)).checkLinkName('b')).rejects.toMatchObject({ code: 'L4' })
  })

  it('L5 rejects a protected link, which this version does not read', () => expectRejected('L5', 'shoal:age.YWdlLWVuY3J5cHRpb24'))
})

it('the name of a share in the DHT is not its root, and differs between shares', async () => {
  const name = await rendezvousDigest(p, CID)
  expect(name).toHaveLength(32)
  expect(name).not.toEqual(CID.digest)
  expect(await rendezvousDigest(p, formatCid(RAW, name))).not.toEqual(name)
})
