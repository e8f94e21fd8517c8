/**
 * The messages of AutoNAT v2 and of circuit relay v2, by the codecs of the libraries: they do not export them, so they are found by their
 * place, and whoever starts a node is told when they have moved.
 */
import type { Uint8ArrayList } from 'uint8arraylist'
import { RemoteError } from '../../../protocol/errors.ts'
import { RELAY } from '../../../protocol/limits.ts'

export interface Codec<T> {
  encode(message: T): Uint8Array
  decode(bytes: Uint8Array | Uint8ArrayList, options?: object): T
}

/** One of the four. */
export interface CheckMessage {
  dialRequest?: { addrs: Uint8Array[]; nonce: bigint }
  dialResponse?: { status: string; addrIdx: number; dialStatus: string }
  dialDataRequest?: { addrIdx: number; numBytes: bigint }
  dialDataResponse?: { data: Uint8Array }
}

export interface HopMessage {
  type?: string
  peer?: { id: Uint8Array; addrs: Uint8Array[] }
  reservation?: { addrs: Uint8Array[]; expire: bigint }
  status?: string
  /** Bytes, and seconds. */
  limit?: { data?: bigint; duration?: number }
}

export interface Codecs {
  check: Codec<CheckMessage>
  dialBack: Codec<{ nonce: bigint }>
  dialBackResponse: Codec<{ status: string }>
  hop: Codec<HopMessage>
}

const PLACES = {
  '@libp2p/autonat-v2': ['Message', 'DialBack', 'DialBackResponse'],
  '@libp2p/circuit-relay-v2': ['HopMessage', 'StopMessage'],
} as const
/** Those that the library itself reads from strangers, of any length and with any number of addresses. */
const LIMITED: ReadonlySet<string> = new Set(['HopMessage', 'StopMessage'])
const DECODE_LIMITS = { limits: { peer: { addrs: RELAY.addressesReadMax }, reservation: { addrs: RELAY.addressesReadMax } } }
const IS_LIMITED = Symbol('shoal.decodeLimits')

/**
 * The codecs; from then on those of relaying refuse what is over the limits, for this process, where the library reads by them as well.
 * Throws an Error when a library has moved one.
 */
export async function loadCodecs(): Promise<Codecs> {
  const found = new Map<string, Codec<never>>()
  for (const [library, names] of Object.entries(PLACES)) {
    const module: unknown = await import(new URL('./pb/index.js', import.meta.resolve(library)).href)
    for (const name of names) {
      const codec = (module as Record<string, { codec?: unknown; encode?: unknown; decode?: unknown } | undefined>)[name] // looked at just below
      if (typeof codec?.encode !== 'function' || typeof codec.decode !== 'function')
        throw new Error(`${library} has moved its message codec`)
      if (LIMITED.has(name)) limitDecoding(codec as unknown as Codec<never>)
      found.set(name, whole(codec as unknown as Codec<never>))
    }
  }
  // Their types are those of the libraries' own definitions.
  const of = <T>(name: string): Codec<T> => found.get(name) as unknown as Codec<T>
  return { check: of('Message'), dialBack: of('DialBack'), dialBackResponse: of('DialBackResponse'), hop: of('HopMessage') }
}

/** Replaces the decode of one, once; later calls change nothing. */
function limitDecoding(codec: Codec<never> & { [IS_LIMITED]?: true }): void {
  if (codec[IS_LIMITED]) return
  const decode = codec.decode
  codec.decode = (bytes) => {
    if (bytes.byteLength > RELAY.readBytesMax)
      throw new RemoteError('FRAME_TOO_LARGE', `relay message of ${bytes.byteLength} bytes, limit ${RELAY.readBytesMax}`)
    return decode(bytes, DECODE_LIMITS)
  }
  codec[IS_LIMITED] = true
}

/** One of the libraries takes lists of bytes in another version than the streams give. */
const whole = (codec: Codec<never>): Codec<never> => ({
  encode: (message) => codec.encode(message),
  decode: (bytes) => codec.decode(bytes instanceof Uint8Array ? bytes : bytes.subarray()),
})
