/** Known answers of the format, each with both sets of primitives. */
import { createCipheriv, createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { fromHex, toHex, utf8 } from '../../protocol/bytes.ts'
import { formatCid, RAW } from '../../protocol/cid.ts'
import { buildDag, ShareDag } from '../../protocol/dag.ts'
import { type Kind, kindKey, lineageScope, nodeScope, publicScope } from '../../protocol/keys.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { formatLink, parseLink } from '../../protocol/link.ts'
import { unpadDocument } from '../../protocol/pages.ts'
import type { Primitives } from '../../protocol/primitives.ts'
import { padme } from '../../protocol/root.ts'
import { createOpener, createSealer } from '../../protocol/seal.ts'
import type { Secret } from '../../protocol/secret.ts'
import { nodePrimitives } from '../primitives-node.ts'
import { webPrimitives } from '../primitives-web.ts'
import { type InputFile, openDag, openShare, writeShare } from './memory-share.ts'

type Part = { text: string } | { zeros: number } | { keystream: string; length: number } | { keystreamFrom: [string, number, number] }

interface ShareVector {
  name: string
  scope: 'lineage' | 'node' | 'public'
  files?: { dir: string; name: string; exec?: boolean; mtime?: number; hash?: boolean; content: Part[] }[]
  emptyDirs: string[]
  generated?: { count: number }
  expect: {
    T: number
    N: number
    counts: [number, number, number]
    pads: number
    rootBlockLength: number
    cid: string
    R: string
    link: string
    blockSha256?: string[]
    rootCbor?: string
  }
}

interface Vectors {
  nodeSecret: string
  lineageId: string
  scopes: Record<'public' | 'node' | 'lineage', string>
  kindKeys: Record<Kind, string>
  block: { plaintext: { keystream: string; length: number }; plaintextSha256: string; K: string; tag: string; blockSha256: string }
  padme: [number, number][]
  dagOnly: { leaves: number; root: string }[]
  shares: ShareVector[]
}

const vectors = JSON.parse(readFileSync(new URL('../vectors/format-v1.json', import.meta.url), 'utf8')) as Vectors
const nodeSecret = fromHex(vectors.nodeSecret)!

function keystream(seed: string, length: number): Uint8Array {
  const cipher = createCipheriv('aes-256-ctr', createHash('sha256').update(seed).digest(), new Uint8Array(16))
  return new Uint8Array(cipher.update(new Uint8Array(length)))
}

function bytesOf(part: Part): Uint8Array {
  if ('text' in part) return utf8(part.text)
  if ('zeros' in part) return new Uint8Array(part.zeros)
  if ('keystream' in part) return keystream(part.keystream, part.length)
  const [seed, from, length] = part.keystreamFrom
  return keystream(seed, from + length).slice(from)
}

// Large contents in chunks of one piece, as a file would be read.
async function* contentOf(parts: Part[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    const bytes = bytesOf(part)
    for (let at = 0; at < bytes.length; at += FORMAT.pieceBytes) yield bytes.slice(at, at + FORMAT.pieceBytes)
  }
}

function filesOf(vector: ShareVector): InputFile[] {
  const files: InputFile[] = []
  for (const file of vector.files ?? []) {
    files.push({
      dir: file.dir,
      name: file.name,
      executable: file.exec ?? false,
      ...(file.mtime === undefined ? {} : { mtimeSeconds: file.mtime }),
      content: contentOf(file.content),
    })
  }
  for (let i = 0; i < (vector.generated?.count ?? 0); i++) {
    const dir = `dir ${String(i % 50).padStart(2, '0')}/a second level with a longer name`
    files.push({ dir, name: `file number ${i} with a long name.txt`, content: keystream(`g${i}`, (i * 37) % 900) })
  }
  return files
}

async function scopeOf(p: Primitives, scope: ShareVector['scope']): Promise<Secret> {
  if (scope === 'public') return await publicScope(p)
  return scope === 'node' ? await nodeScope(p, nodeSecret) : await lineageScope(p, nodeSecret, vectors.lineageId)
}

describe.each([
  ['node:crypto', nodePrimitives],
  ['WebCrypto', webPrimitives],
])('known answers with %s', (_name, p) => {
  it.each(['public', 'node', 'lineage'] as const)('the %s scope is derived', async (scope) => {
    expect(toHex((await scopeOf(p, scope)).reveal())).toBe(vectors.scopes[scope])
  })

  it('a key for each kind is derived', async () => {
    const scope = await publicScope(p)
    for (const [kind, key] of Object.entries(vectors.kindKeys)) expect(toHex(await kindKey(p, scope, kind as Kind))).toBe(key)
  })

  it('a data block is sealed and opened', async () => {
    const { plaintext, plaintextSha256, K, tag, blockSha256 } = vectors.block
    const bytes = keystream(plaintext.keystream, plaintext.length)
    expect(toHex(await p.sha256(bytes))).toBe(plaintextSha256)
    const sealed = await createSealer(p, await publicScope(p)).seal('data', bytes.slice())
    expect(toHex(sealed.key)).toBe(K)
    expect(toHex(sealed.block.slice(-16))).toBe(tag)
    expect(toHex(sealed.digest)).toBe(blockSha256)
    expect(Buffer.compare(await createOpener(p).open('data', sealed.key, sealed.block), bytes)).toBe(0)
  })

  it.each(vectors.shares)('share: $name', async (vector) => {
    const { written, blocks } = await writeShare(p, await scopeOf(p, vector.scope), filesOf(vector), vector.emptyDirs)
    const wanted = vector.expect
    const { data, keys, paths, pads } = written.counts
    expect({ T: written.shape.totalBytes, N: written.shape.blockCount, counts: [data, keys, paths], pads }).toEqual({
      T: wanted.T,
      N: wanted.N,
      counts: wanted.counts,
      pads: wanted.pads,
    })
    const dag = await openDag(p, written.cid, blocks)
    const digests = Array.from({ length: wanted.N }, (_, i) => toHex(dag.digestOf(0, i)!))
    if (wanted.blockSha256 !== undefined) expect(digests).toEqual(wanted.blockSha256)
    const root = blocks.get(dag.digestOf(0, wanted.N - 1)!)
    expect(root.length).toBe(wanted.rootBlockLength)
    if (wanted.rootCbor !== undefined) {
      const cbor = unpadDocument(await createOpener(p).openRoot(written.readKey, root))
      expect(toHex(cbor)).toBe(wanted.rootCbor)
    }
    expect(toHex(written.readKey.reveal())).toBe(wanted.R)
    expect(written.cid.text).toBe(wanted.cid)
    expect(await formatLink(p, { cid: written.cid, readKey: written.readKey, peers: [], vias: [] })).toBe(wanted.link)
    expect(toHex((await parseLink(p, wanted.link)).readKey!.reveal())).toBe(wanted.R)
    await expectSameFiles(await openShare(p, written, blocks), filesOf(vector), vector.emptyDirs)
  })
})

async function expectSameFiles(reader: Awaited<ReturnType<typeof openShare>>, files: InputFile[], emptyDirs: string[]): Promise<void> {
  const wanted = new Map(files.map((file) => [`${file.dir}/${file.name}`, file]))
  const empty: string[] = []
  for await (const entry of reader.entries()) {
    if (entry.name === '') {
      empty.push(entry.dir)
      continue
    }
    const file = wanted.get(`${entry.dir}/${entry.name}`)!
    wanted.delete(`${entry.dir}/${entry.name}`)
    expect(entry.executable).toBe(file.executable ?? false)
    expect(entry.mtimeSeconds).toBe(file.mtimeSeconds)
    const got = createHash('sha256')
    for await (const chunk of reader.read(entry)) got.update(chunk)
    const put = createHash('sha256')
    if (file.content instanceof Uint8Array) put.update(file.content)
    else for await (const chunk of file.content) put.update(chunk)
    expect(got.digest('hex')).toBe(put.digest('hex'))
  }
  expect(wanted.size).toBe(0)
  expect(empty).toEqual(emptyDirs)
}

describe('known answers of sizes and trees', () => {
  it.each(vectors.padme)('%d bytes are padded to %d', (lengthBytes, padded) => {
    expect(padme(lengthBytes)).toBe(padded)
  })

  it.each(vectors.dagOnly)('a tree over $leaves leaves', async ({ leaves, root }) => {
    const digests = new Uint8Array(32 * leaves)
    const counter = new Uint8Array(4)
    for (let i = 0; i < leaves; i++) {
      new DataView(counter.buffer).setUint32(0, i)
      digests.set(await nodePrimitives.sha256(i === leaves - 1 ? utf8('last') : counter), 32 * i)
    }
    const nodes: [number, number, Uint8Array][] = []
    const totalBytes = (leaves - 1) * FORMAT.blockBytes + 100
    const cid = await buildDag(nodePrimitives, digests, totalBytes, async (level, index, _digest, bytes) => {
      nodes.push([level, index, bytes])
    })
    expect(cid.text).toBe(root)
    if (leaves === 1) {
      expect(cid).toEqual(formatCid(RAW, digests))
      return
    }
    // From the root down, the checks accept what was built.
    const [, , rootBytes] = nodes.pop()!
    const dag = await ShareDag.open(nodePrimitives, cid, rootBytes)
    expect(dag.missingNodes).toBe(nodes.length)
    for (const [level, index, bytes] of nodes.reverse()) await dag.acceptNode(level, index, bytes)
    expect(dag.missingNodes).toBe(0)
    for (const i of [0, leaves >> 1, leaves - 1]) expect(dag.digestOf(0, i)).toEqual(digests.slice(32 * i, 32 * i + 32))
  })
})
