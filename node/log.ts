/**
 * Structured logs: one line per event, constant text plus fields, to standard error or the daemon's log file.
 *
 * Never give it links, keys, file names or paths above level debug; a Secret prints as "[secret]" at every level.
 */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export type LogFields = Record<string, unknown>

export interface Log {
  error(text: string, fields?: LogFields): void
  warn(text: string, fields?: LogFields): void
  info(text: string, fields?: LogFields): void
  debug(text: string, fields?: LogFields): void
}

const RANK: Record<LogLevel, number> = { silent: -1, error: 0, warn: 1, info: 2, debug: 3 }

const asText = (value: unknown): unknown =>
  value instanceof Error ? { name: value.name, message: value.message, code: codeOf(value) } : value

const codeOf = (error: Error): unknown => ('code' in error ? error.code : undefined)

/** A log that writes JSON lines of at most `level` through `write` (which gets the newline). */
export function createLog(level: LogLevel, write: (line: string) => void): Log {
  const at =
    (own: LogLevel) =>
    (text: string, fields: LogFields = {}): void => {
      if (RANK[own] > RANK[level]) return
      const shown = Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, asText(value)]))
      write(`${JSON.stringify({ at: new Date().toISOString(), level: own, text, ...shown })}\n`)
    }
  return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') }
}

/** Says nothing: for tests and one-shot commands without --verbose. */
export const silentLog: Log = createLog('silent', () => {})
