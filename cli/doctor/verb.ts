/** `shoal doctor`: what is wrong with this machine, home and node, and what to do about it. Changes nothing. */
import type { Config } from '../../node/config.ts'
import { JobError } from '../../node/control/api.ts'
import { EXIT } from '../../protocol/errors.ts'
import { escapeText } from '../escape.ts'
import type { Report } from '../report.ts'
import { examine, type Finding } from './checks.ts'
import { gatherFacts } from './facts.ts'

/** Resolves to 0, or to EXIT.badInput when something is broken; warnings are no failures. `load` reads the settings of the home. */
export async function runDoctor(home: string, load: () => Promise<Config>, report: Report, signal: AbortSignal): Promise<number> {
  const config = await load().catch((error: unknown) => {
    if (error instanceof JobError) return error
    throw error
  })
  const findings = examine(await gatherFacts(home, config, signal))
  const failed = findings.filter(({ state }) => state === 'fail').length
  await report.answer({ healthy: failed === 0, findings }, findings.map(sayFinding).join(''))
  return failed === 0 ? EXIT.ok : EXIT.badInput
}

const sayFinding = ({ name, state, says, todo }: Finding): string =>
  `${state.padEnd(4)}  ${name.padEnd(8)}  ${escapeText(says)}\n${todo === null ? '' : `                ${escapeText(todo)}\n`}`
