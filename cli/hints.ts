/** What to do next, by the code of a failure: the sentence after what went wrong, in words of the command line. */
import { EXIT } from '../protocol/errors.ts'

const HINTS: Record<string, string> = {
  USAGE: 'See `shoal --help`.',
  HOME_LOCKED: 'Stop the other one with `shoal stop`, or choose another home with --home.',
  NO_SEEDER: 'Keep waiting with --wait, or ask the sender to run `shoal seed`.',
  NO_SPACE: 'Free some space and run the same command again: what was fetched is kept. With --wait, `get` waits for room.',
  NO_DAEMON: 'Start one with `shoal daemon`.',
  OTHER_VERSION: 'Restart it: `shoal stop`, then `shoal daemon` (or `systemctl --user restart shoal`).',
  STOPPED: 'Run the same command again to go on.',
  B1: 'Ask the sender for the whole link again.',
  X7: 'Say --yes to go on all the same.',
  BUG: 'Please report it, with what you did and the log of --log-level debug.',
}

const EXISTING: Record<string, string> = {
  get: 'Choose another folder with -o, or replace what is there with --force.',
  'export-car': 'Choose another name, or replace what is there with --force.',
}

const INTERRUPTED: Record<string, string> = {
  get: 'Run the same command again: it goes on where it stopped.',
  seed: 'Run the same command again: it goes on where it stopped.',
  share: 'No link was made; run the same command again, what was already sealed is used.',
}

/** The advice for a failure of `verb`, empty when there is none or the message already names the option. */
export function hintFor(code: string, exitCode: number, verb: string | null, message: string): string {
  const ofVerb = code === 'INTERRUPTED' ? INTERRUPTED : code === 'EXISTS' ? EXISTING : null
  const own = ofVerb === null ? lookUp(HINTS, code) : lookUp(ofVerb, verb ?? '')
  const hint = own ?? (exitCode === EXIT.badLink ? HINTS.B1 : undefined)
  if (hint === undefined) return ''
  const option = /--[a-z]+/.exec(hint)?.[0]
  return option !== undefined && message.includes(option) ? '' : hint
}

const lookUp = (table: Record<string, string>, key: string): string | undefined => (Object.hasOwn(table, key) ? table[key] : undefined)
