/**
 * What the network does to us: nobody there, too slow, refused, gone.
 *
 * Not a peer's breach of the wire protocol (RemoteError, protocol/errors.ts) and not a bug. Callers compare `code`.
 */
export type NetworkCode = 'UNREACHABLE' | 'TIMEOUT' | 'REFUSED' | 'UNKNOWN_SHARE' | 'BUDGET' | 'CLOSED' | 'BAD_ADDRESS' | 'PORT_TAKEN'

/** A failure of the network or of the other side's will to talk to us. */
export class NetworkError extends Error {
  override name = 'NetworkError'
  readonly code: NetworkCode
  constructor(code: NetworkCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Whatever a library threw or rejected with (some reject with an Event) as an Error. */
export function asError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown
  if (typeof thrown === 'object' && thrown !== null && 'error' in thrown && thrown.error instanceof Error) return thrown.error
  return new Error('the stream was reset')
}

/** The same as a NetworkError: cut short by a deadline is TIMEOUT, anything else is `code`. */
export function asNetworkError(code: NetworkCode, what: string, thrown: unknown): NetworkError {
  if (thrown instanceof NetworkError) return thrown
  const cause = asError(thrown)
  const isTimeout = cause.name === 'TimeoutError'
  return new NetworkError(isTimeout ? 'TIMEOUT' : code, `${what}: ${cause.message}`, { cause })
}
