/**
 * Turns whatever a job threw into the JobError that its user sees.
 *
 * The last guard before an error leaves the node: nothing that looks like a share link's key gets through.
 */
import { EXIT, FORMAT_CODES, FormatError, InputError } from '../../protocol/errors.ts'
import { JobError, withoutKeys } from './api.ts'
import type { WireError } from './routes.ts'

/** Exit codes of the world's errors by their `name` and `code`; the room that throws them need not be known here. */
const WORLD_EXITS: Record<string, Record<string, { code: string; exit: number }>> = {
  FileError: {
    NO_SPACE: { code: 'NO_SPACE', exit: EXIT.noSpace },
    EXISTS: { code: 'EXISTS', exit: EXIT.pathExists },
    NOT_EMPTY: { code: 'EXISTS', exit: EXIT.pathExists },
    UNSAFE: { code: 'UNSAFE', exit: EXIT.pathExists },
    LOCKED: { code: 'HOME_LOCKED', exit: EXIT.homeLocked },
    INSECURE: { code: 'INSECURE', exit: EXIT.badInput },
    NOT_FOUND: { code: 'NOT_FOUND', exit: EXIT.badInput },
    DENIED: { code: 'DENIED', exit: EXIT.badInput },
    CHANGED: { code: 'CHANGED', exit: EXIT.badInput },
    IO: { code: 'IO', exit: EXIT.badInput },
    CORRUPT: { code: 'CORRUPT', exit: EXIT.badInput },
    NEWER: { code: 'NEWER', exit: EXIT.badInput },
    TOO_LARGE: { code: 'TOO_LARGE', exit: EXIT.badInput },
    BUSY: { code: 'BUSY', exit: EXIT.noDaemon },
    CLOSED: { code: 'STOPPED', exit: EXIT.noDaemon },
  },
  NetworkError: {
    UNREACHABLE: { code: 'NO_SEEDER', exit: EXIT.noSeeder },
    TIMEOUT: { code: 'NO_SEEDER', exit: EXIT.noSeeder },
    REFUSED: { code: 'NO_SEEDER', exit: EXIT.noSeeder },
    UNKNOWN_SHARE: { code: 'NO_SEEDER', exit: EXIT.noSeeder },
    BUDGET: { code: 'NO_SEEDER', exit: EXIT.noSeeder },
    CLOSED: { code: 'STOPPED', exit: EXIT.noDaemon },
    BAD_ADDRESS: { code: 'BAD_ADDRESS', exit: EXIT.badInput },
    PORT_TAKEN: { code: 'PORT_TAKEN', exit: EXIT.badInput },
  },
}

/** The JobError for `error`; one that is nobody's known failure becomes BUG. `signal` is that of the job. */
export function toJobError(error: unknown, signal: AbortSignal): JobError {
  if (error instanceof JobError) return error
  if (signal.aborted && (error === signal.reason || isAbort(error))) {
    return signal.reason instanceof JobError ? signal.reason : new JobError('INTERRUPTED', 'interrupted', { cause: error })
  }
  if (error instanceof FormatError) return new JobError(error.code, sentenceOf(error), { cause: error })
  if (error instanceof InputError) return new JobError(error.code, error.message, { cause: error, exitCode: EXIT.badInput })
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    const known = WORLD_EXITS[error.name]?.[error.code]
    if (known) return new JobError(known.code, error.message, { cause: error, exitCode: known.exit })
  }
  const text = error instanceof Error ? `${error.name}: ${error.message}` : 'something that is no Error was thrown'
  return new JobError('BUG', `a fault in Shoal itself (${text})`, { cause: error })
}

const isAbort = (error: unknown): boolean => error instanceof Error && error.name === 'AbortError'

/** Errors about links never quote: what is wrong with a link may be its key. Those about shares say where. */
const sentenceOf = (error: FormatError): string => {
  const { says } = FORMAT_CODES[error.code]
  return error.code.startsWith('L') ? says : `${says} (${error.code}: ${error.message})`
}

/** The error as it goes over the socket. */
export const toWire = (error: JobError): WireError => ({ code: error.code, message: withoutKeys(error.message), exitCode: error.exitCode })
