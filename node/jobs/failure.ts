/** Turns whatever a job died of into what the user is told: a code, an exit code, a sentence, and what to do next. */
import { EXIT, FORMAT_CODES, FormatError, InputError } from '../../protocol/errors.ts'
import { JobError } from '../control/api.ts'
import { NetworkError } from '../network/network-error.ts'
import { FileError } from '../storage/file-error.ts'

const FILE_EXITS: Partial<Record<FileError['code'], number>> = {
  NO_SPACE: EXIT.noSpace,
  EXISTS: EXIT.pathExists,
  NOT_FOUND: EXIT.badInput,
  CHANGED: EXIT.badInput,
  DENIED: EXIT.badInput,
  UNSAFE: EXIT.pathExists,
  LOCKED: EXIT.homeLocked,
  INSECURE: EXIT.badInput,
}

const FILE_HINTS: Partial<Record<FileError['code'], string>> = {
  EXISTS: 'Choose another folder with -o, or --force to replace files.',
  NO_SPACE: 'Free some space and run the same command again: what was fetched is kept.',
  CHANGED: 'Share it again when nothing writes to it.',
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`

/** The JobError for any error; a JobError is passed through, and so is the abort of a signal. */
export function asJobError(error: unknown): JobError {
  if (error instanceof JobError) return error
  if (error instanceof FormatError) {
    const row = FORMAT_CODES[error.code]
    return new JobError(error.code, `${sentence(row.says)} (${error.code}: ${error.message})`, { exitCode: row.exit })
  }
  if (error instanceof InputError) return new JobError(error.code, sentence(error.message), { exitCode: EXIT.badInput })
  if (error instanceof FileError) {
    const hint = FILE_HINTS[error.code]
    return new JobError(error.code, sentence(error.message) + (hint === undefined ? '' : ` ${hint}`), { exitCode: FILE_EXITS[error.code] ?? EXIT.bug })
  }
  if (error instanceof NetworkError) return new JobError(error.code, sentence(error.message), { exitCode: EXIT.badInput })
  if (error instanceof Error && error.name === 'AbortError') return new JobError('INTERRUPTED', 'Interrupted.', { exitCode: EXIT.interrupted })
  return new JobError('BUG', error instanceof Error ? error.message : String(error), { exitCode: EXIT.bug })
}
