/**
 * Structured logs: one line per event, constant text plus fields, to standard error or the daemon's log file (log-file.ts).
 *
 * JSON for programs, plain text for a terminal. Never give it links, keys, file names or paths above level debug; a Secret prints as
 * "[secret]" at every level.
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

/** A log whose level may be changed while it is used. */
export interface LeveledLog extends Log {
  level: LogLevel
}

/** 'json': one object a line. 'text': time, level, text and fields, for people. */
export type LogForm = 'json' | 'text'

const RANK: Record<LogLevel, number> = { silent: -1, error: 0, warn: 1, info: 2, debug: 3 }

const asText = (value: unknown): unknown =>
  value instanceof Error ? { name: value.name, message: value.message, code: codeOf(value) } : value

const codeOf = (error: Error): unknown => ('code' in error ? error.code : undefined)

/** A log that writes lines of at most `level` through `write` (which gets the newline). */
export function createLog(level: LogLevel, write: (line: string) => void, form: LogForm = 'json'): LeveledLog {
  const at =
    (own: LogLevel) =>
    (text: string, fields: LogFields = {}): void => {
      if (RANK[own] > RANK[log.level]) return
      const shown = Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, asText(value)]))
      const time = new Date().toISOString()
      write(form === 'json' ? `${JSON.stringify({ at: time, level: own, text, ...shown })}\n` : textLine(time, own, text, shown))
    }
  const log: LeveledLog = { level, error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') }
  return log
}

/** What peers say may stand in a field, and a terminal must not obey it; JSON escapes the other controls. */
const STEERING = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g

const escaped = (value: string): string => value.replace(STEERING, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`)

function textLine(time: string, level: LogLevel, text: string, fields: LogFields): string {
  const shown = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}=${escaped(JSON.stringify(value) ?? String(value))}`)
  return `${time.slice(11, 19)} ${level.padEnd(5)} ${text}${shown.join('')}\n`
}

/** Says nothing: for tests and one-shot commands without --verbose. */
export const silentLog: LeveledLog = createLog('silent', () => {})
