/** Searches a folder and texts for any name or plaintext of a share, and for its key: what a blind seeder must not hold. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface SearchResult {
  needles: number
  filesSearched: number
  bytesSearched: number
  hits: string[]
}

const SAMPLE_BYTES = 24
const SAMPLES_PER_FILE = 3
const NAME_BYTES_MIN = 6

/** Names from six bytes up that are more than a word, samples of each file's content, and the read key in the usual spellings. */
export async function needlesOf(folder: string, link: string): Promise<Buffer[]> {
  const needles = new Map<string, Buffer>()
  const add = (needle: Buffer): void => void needles.set(needle.toString('hex'), needle)
  const token = link.split('#')[1]?.split(',')[0]?.slice(1) ?? ''
  const key = Buffer.from(token, 'base64url').subarray(0, 32)
  if (key.byteLength === 32)
    for (const form of [token, token.slice(0, 42), key.toString('hex'), key.toString('base64')]) add(Buffer.from(form))
  if (key.byteLength === 32) add(key)
  const visit = async (dir: string): Promise<void> => {
    for (const entry of await readdir(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name)
      // Ordinary words ("network", "storage") stand in any log: take the names that can only be names.
      if (Buffer.byteLength(entry.name) >= NAME_BYTES_MIN && /[. ]|[^ -~]/.test(entry.name)) add(Buffer.from(entry.name))
      if (entry.isDirectory()) await visit(path)
      else for (const sample of await samplesOf(path)) add(sample)
    }
  }
  await visit(folder)
  return [...needles.values()]
}

async function samplesOf(path: string): Promise<Buffer[]> {
  const size = (await stat(path)).size
  if (size < SAMPLE_BYTES) return []
  const bytes = await readFile(path)
  const step = Math.floor((size - SAMPLE_BYTES) / SAMPLES_PER_FILE)
  return Array.from({ length: SAMPLES_PER_FILE }, (_, i) => bytes.subarray(i * step, i * step + SAMPLE_BYTES)).filter(
    (sample) => new Set(sample).size > 8,
  )
}

export async function findPlaintext(init: {
  folder: string
  link: string
  inDir: string
  texts: Record<string, string>
  bytes?: Record<string, Buffer>
}): Promise<SearchResult> {
  const needles = await needlesOf(init.folder, init.link)
  const result: SearchResult = { needles: needles.length, filesSearched: 0, bytesSearched: 0, hits: [] }
  const finder = new Finder(needles)
  const search = (what: string, bytes: Buffer): void => {
    result.filesSearched++
    result.bytesSearched += bytes.byteLength
    for (const needle of finder.findIn(bytes)) result.hits.push(`${what} holds ${needle.toString('latin1').slice(0, 40)}`)
  }
  const visit = async (dir: string): Promise<void> => {
    for (const entry of await readdir(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name)
      search(`the name ${entry.name}`, Buffer.from(entry.name))
      if (entry.isDirectory()) await visit(path)
      else if (entry.isFile()) search(path, await readFile(path))
    }
  }
  await visit(init.inDir)
  for (const [what, text] of Object.entries(init.texts)) search(what, Buffer.from(text))
  for (const [what, bytes] of Object.entries(init.bytes ?? {})) search(what, bytes)
  return result
}

/** Finds any of many needles in one pass: a table of their first four bytes, then a comparison. */
class Finder {
  readonly #table = new Uint8Array(1 << 24)
  readonly #byHead = new Map<number, Buffer[]>()

  constructor(needles: Buffer[]) {
    for (const needle of needles) {
      const head = needle.readUIntBE(0, 3)
      this.#table[head] = 1
      this.#byHead.set(head, [...(this.#byHead.get(head) ?? []), needle])
    }
  }

  findIn(bytes: Buffer): Set<Buffer> {
    const found = new Set<Buffer>()
    let head = 0
    for (let i = 0; i < bytes.byteLength; i++) {
      head = ((head << 8) | bytes[i]!) & 0xffffff
      if (i < 2 || this.#table[head] === 0) continue
      for (const needle of this.#byHead.get(head) ?? []) {
        if (bytes.compare(needle, 0, needle.byteLength, i - 2, Math.min(bytes.byteLength, i - 2 + needle.byteLength)) === 0)
          found.add(needle)
      }
    }
    return found
  }
}
