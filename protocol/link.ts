/**
 * Seed links and share links: the one text that a person passes on.
 *
 * A strict pattern comes before any decoder, since decoders skip what they do not know. Links wrapped with a password or for recipients are
 * not in this version yet: they are recognised and refused.
 */
import { base64url } from 'multiformats/bases/base64'
import { concat, equalBytes, fromUtf8, utf8 } from './bytes.ts'
import { cidBytes, parseCid, type ShareCid } from './cid.ts'
import { FormatError } from './errors.ts'
import { label } from './keys.ts'
import { FORMAT } from './limits.ts'
import { checkName, checkPath } from './names.ts'
import { isPeerAddress } from './peer-address.ts'
import type { Primitives } from './primitives.ts'
import { Secret } from './secret.ts'

/** What a link says. */
export interface Link {
  cid: ShareCid
  /** Null in a seed link, which cannot read. */
  readKey: Secret | null
  /** Where to start inside the share; not a permission. */
  path?: string
  /** The name of a single file. */
  name?: string
  /** Multiaddrs that end in /p2p/…, at most 4. */
  peers: string[]
  /** CIDs whose seeders also hold blocks of this share, at most 2. */
  vias: string[]
}

const SCHEME = 'shoal:'
const HTTPS = /^https:\/\/[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:\/[\u0021\u0024-\u007e]*)?#([a-z2-7]+)\.(.*)$/
const TOKEN = /^[A-Za-z0-9_-]{48}$/
const PCT = /^(?:[A-Za-z0-9\-._~/:]|%[0-9A-F]{2})+$/
const KEY_BYTES = 32

/** Reads a seed link, a share link, or the https form of one. Throws FormatError L1..L5. */
export async function parseLink(p: Primitives, text: string): Promise<Link> {
  if (text.length > FORMAT.linkCharactersMax) {
    throw new FormatError('L3', `link of ${text.length} characters, limit ${FORMAT.linkCharactersMax}`)
  }
  const https = HTTPS.exec(text)
  if (https !== null) return await parseShare(p, parseCid(https[1]!), https[2]!)
  if (!text.startsWith(SCHEME)) throw new FormatError('L3', 'a link starts with shoal: or https://')
  const body = text.slice(SCHEME.length)
  if (body.startsWith('age.')) throw new FormatError('L5', 'links protected by a password or for recipients are not supported yet')
  const hash = body.indexOf('#')
  if (hash < 0) return { cid: parseCid(body), readKey: null, peers: [], vias: [] }
  return await parseShare(p, parseCid(body.slice(0, hash)), body.slice(hash + 1))
}

/** Writes a link; without a read key the seed link, which carries nothing but the CID. Throws FormatError L3, L4 for what no link may hold. */
export async function formatLink(p: Primitives, link: Link): Promise<string> {
  if (link.readKey === null) return SCHEME + link.cid.text
  const key = link.readKey.reveal()
  const token = base64url.baseEncode(concat(key, await checkBytes(p, link.cid, key)))
  const values: [string, string][] = []
  if (link.path !== undefined) values.push(['path', link.path])
  if (link.name !== undefined) values.push(['name', link.name])
  for (const peer of link.peers) values.push(['peer', peer])
  for (const via of link.vias) values.push(['via', via])
  const params = values.map(([key, value]) => `,${key}=${toPct(value)}`)
  const text = `${SCHEME}${link.cid.text}#1${token}${params.join('')}`
  // The reader's rules are the writer's.
  await parseLink(p, text)
  return text
}

async function parseShare(p: Primitives, cid: ShareCid, fragment: string): Promise<Link> {
  const [typed, ...params] = fragment.split(',')
  const type = typed!.charAt(0)
  if (type === '') throw new FormatError('L2', 'nothing stands behind the #')
  if (type !== '1') throw new FormatError('L3', `link of type ${JSON.stringify(type)}: made by a newer version`)
  const token = typed!.slice(1)
  if (!TOKEN.test(token)) throw new FormatError('L2', `token of ${token.length} characters is not 48 of base64url`)
  const bytes = base64url.baseDecode(token)
  const key = bytes.slice(0, KEY_BYTES)
  if (!equalBytes(bytes.subarray(KEY_BYTES), await checkBytes(p, cid, key))) {
    throw new FormatError('L2', 'the checksum of the link does not match: a character was changed')
  }
  const link: Link = { cid, readKey: new Secret(key), peers: [], vias: [] }
  for (const param of params) readParam(link, param)
  return link
}

function readParam(link: Link, param: string): void {
  const equals = param.indexOf('=')
  const key = equals < 0 ? param : param.slice(0, equals)
  const value = fromPct(equals < 0 ? '' : param.slice(equals + 1), key)
  if (key === 'path' && link.path === undefined) link.path = checked(value, checkPath)
  else if (key === 'name' && link.name === undefined) link.name = checked(value, checkName)
  else if (key === 'peer' && link.peers.length < FORMAT.linkPeersMax) {
    if (!isPeerAddress(value)) throw new FormatError('L3', 'a peer in the link is not an address that ends in /p2p/…')
    link.peers.push(value)
  } else if (key === 'via' && link.vias.length < FORMAT.linkViasMax) link.vias.push(parseCid(value).text)
  else throw new FormatError('L3', `link with an unknown or surplus parameter ${JSON.stringify(key)}: made by a newer version`)
}

function checked(value: string, check: (value: string) => void): string {
  try {
    check(value)
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause
    throw new FormatError('L4', `the link holds a path or name that no share can hold: ${cause.message}`, { cause })
  }
  return value
}

function fromPct(escaped: string, key: string): string {
  if (!PCT.test(escaped)) throw new FormatError('L3', `parameter ${JSON.stringify(key)} is empty or wrongly escaped`)
  const bytes: number[] = []
  for (let i = 0; i < escaped.length; i++) {
    if (escaped[i] === '%') {
      bytes.push(Number.parseInt(escaped.slice(i + 1, i + 3), 16))
      i += 2
    } else bytes.push(escaped.charCodeAt(i))
  }
  const value = fromUtf8(Uint8Array.from(bytes))
  if (value === null) throw new FormatError('L3', `parameter ${JSON.stringify(key)} is not UTF-8`)
  if (value.normalize('NFC') !== value) throw new FormatError('L3', `parameter ${JSON.stringify(key)} is not in NFC`)
  return value
}

function toPct(value: string): string {
  let escaped = ''
  for (const byte of utf8(value)) {
    const character = String.fromCharCode(byte)
    escaped += PCT.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return escaped
}

async function checkBytes(p: Primitives, cid: ShareCid, key: Uint8Array): Promise<Uint8Array> {
  const digest = await p.sha256(concat(label('link'), Uint8Array.of(1), cidBytes(cid.codec, cid.digest), key))
  return digest.subarray(0, 4)
}
