/**
 * The messages of AutoNAT v2 and of circuit relay v2, by the codecs of the libraries: they do not export them, so they are found by their
 * place, and whoever starts a node is told when they have moved.
 */
import type { Uint8ArrayList } from 'uint8arraylist'

export interface Codec<T> {
  encode(message: T): Uint8Array
  decode(bytes: Uint8Array | Uint8ArrayList): T
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

const PLACES = { '@libp2p/autonat-v2': ['Message', 'DialBack', 'DialBackResponse'], '@libp2p/circuit-relay-v2': ['HopMessage'] } as const

/** Throws an Error when a library has moved one. */
export async function loadCodecs(): Promise<Codecs> {
  const found = new Map<string, Codec<never>>()
  for (const [library, names] of Object.entries(PLACES)) {
    const module: unknown = await import(new URL('./pb/index.js', import.meta.resolve(library)).href)
    for (const name of names) {
      const codec = (module as Record<string, { codec?: unknown; encode?: unknown; decode?: unknown } | undefined>)[name] // looked at just below
      if (typeof codec?.encode !== 'function' || typeof codec.decode !== 'function')
        throw new Error(`${library} has moved its message codec`)
      found.set(name, whole(codec as unknown as Codec<never>))
    }
  }
  // Their types are those of the libraries' own definitions.
  const of = <T>(name: string): Codec<T> => found.get(name) as unknown as Codec<T>
  return { check: of('Message'), dialBack: of('DialBack'), dialBackResponse: of('DialBackResponse'), hop: of('HopMessage') }
}

/** One of the libraries takes lists of bytes in another version than the streams give. */
const whole = (codec: Codec<never>): Codec<never> => ({
  encode: (message) => codec.encode(message),
  decode: (bytes) => codec.decode(bytes instanceof Uint8Array ? bytes : bytes.subarray()),
})
