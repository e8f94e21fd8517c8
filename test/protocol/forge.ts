/** Shares with a chosen index, correctly sealed: what a hostile publisher can make. */

import { expect } from 'vitest'
import type { CborValue } from '../../protocol/cbor.ts'
import { encodeCbor } from '../../protocol/cbor.ts'
import { shapeOf } from '../../protocol/dag.ts'
import type { Entry } from '../../protocol/entry.ts'
import type { FormatCode } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { padDocument } from '../../protocol/pages.ts'
import { ShareReader } from '../../protocol/reader.ts'
import { createOpener, createSealer } from '../../protocol/seal.ts'
import { Secret } from '../../protocol/secret.ts'
import { nodePrimitives } from '../primitives-node.ts'

export const PT = FORMAT.pieceBytes
export const SEALER = createSealer(nodePrimitives, new Secret(new Uint8Array(32).fill(7)))

/** A document as a page or root holds it: u32 length, CBOR, zeros. */
export function page(value: CborValue): Uint8Array {
  return padDocument(encodeCbor(value), PT)
}

export function map(fields: Record<string, CborValue>): Map<string, CborValue> {
  return new Map(Object.entries(fields))
}

export interface Forged {
  /** Plaintexts of data blocks. */
  data?: Uint8Array[]
  /** Positions before the data that only count and cannot be fetched. */
  missingBlocks?: number
  pads?: number
  keyPages?: Uint8Array[]
  pathPages?: Uint8Array[]
  /** The root's CBOR, from the keys of what was sealed before it. */
  root: (keys: { data: Uint8Array; keyPages: Uint8Array; paths: Uint8Array[] }) => CborValue | Uint8Array
  rootBytes?: number
  /** Changes the plaintext of the root, or the sealed blocks, last of all. */
  spoilRoot?: (rootPlain: Uint8Array) => void
  spoilBlocks?: (blocks: Uint8Array[]) => void
  wrongKey?: boolean
}

export async function openForged(forged: Forged): Promise<ShareReader> {
  const blocks: Uint8Array[] = Array.from({ length: forged.missingBlocks ?? 0 }, () => new Uint8Array(0))
  const sealAll = async (kind: 'data' | 'keys' | 'path' | 'pad', plaintexts: Uint8Array[]): Promise<Uint8Array[]> => {
    const keys: Uint8Array[] = []
    for (const plaintext of plaintexts) {
      const sealed = await SEALER.seal(kind, plaintext)
      blocks.push(sealed.block)
      keys.push(sealed.key)
    }
    return keys
  }
  const data = await sealAll('data', forged.data ?? [])
  for (let i = 0; i < (forged.pads ?? 0); i++) await sealAll('pad', [new Uint8Array(PT).fill(i + 1)])
  const keyPages = await sealAll('keys', forged.keyPages ?? [])
  const paths = await sealAll('path', forged.pathPages ?? [])
  const root = forged.root({ data: Buffer.concat(data), keyPages: Buffer.concat(keyPages), paths })
  const cbor = root instanceof Uint8Array ? root : encodeCbor(root)
  const rootBytes = forged.rootBytes ?? Math.max(FORMAT.shareBytesMin, cbor.length + 52)
  const rootPlain = padDocument(cbor, rootBytes - 48)
  forged.spoilRoot?.(rootPlain)
  const { readKey, block } = await SEALER.sealRoot(rootPlain)
  blocks.push(block)
  forged.spoilBlocks?.(blocks)
  return await ShareReader.open({
    opener: createOpener(nodePrimitives),
    primitives: nodePrimitives,
    readKey: forged.wrongKey ? new Secret(new Uint8Array(32)) : readKey,
    shape: shapeOf((blocks.length - 1) * FORMAT.blockBytes + rootBytes),
    fetchBlock: async (position) => blocks[position]!,
  })
}

export async function listAll(reader: ShareReader): Promise<Entry[]> {
  const entries: Entry[] = []
  for await (const entry of reader.entries()) entries.push(entry)
  return entries
}

export const PIECE = new Uint8Array(PT).fill(1)

// A share of one block that holds the file "a", with fields of its root replaced.
export function oneFile(fields: Record<string, CborValue | undefined> = {}): Forged {
  return {
    data: [PIECE.slice()],
    root: ({ data }) => {
      const all: Record<string, CborValue | undefined> = {
        c: [1, 0, 0],
        f: 1,
        k: data,
        p: [['', [['a', PT, [[0, 1]]]]]],
        s: PT,
        v: 1,
        ...fields,
      }
      return new Map(Object.entries(all).filter((pair): pair is [string, CborValue] => pair[1] !== undefined))
    },
  }
}

// A share of one block with these groups in its root.
export function withGroups(groups: CborValue, f: number, s: number, d?: Uint8Array): Forged {
  return oneFile({ p: groups, f, s, d })
}

export function withEntry(entry: CborValue, size = PT): Forged {
  return withGroups([['', [entry]]], 1, size)
}

export function withExtents(extents: CborValue, size: number): Forged {
  return withEntry(['a', size, extents], size)
}

// A share of empty files on path pages; `firsts` replaces what the root says of their first pairs.
export function withPages(pages: CborValue[], firsts: [string, string][], files: number): Forged {
  return {
    pathPages: pages.map(page),
    root: ({ paths }) =>
      map({ c: [0, 0, pages.length], f: files, k: new Uint8Array(0), p: paths.map((key, i) => [...firsts[i]!, key]), s: 0, v: 1 }),
  }
}

/** The entry of an empty file. */
export const empty = (name: string): CborValue => [name, 0, []]

export function flip(bytes: Uint8Array, at: number): void {
  bytes[at]! ^= 1
}

export async function expectRejected(code: FormatCode, forged: Forged): Promise<void> {
  await expect(openForged(forged).then(listAll)).rejects.toMatchObject({ name: 'FormatError', code })
}
