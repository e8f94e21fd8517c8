/**
 * One run of the command line: arguments, the node, the verb, the exit code. Ctrl-C aborts what runs, a second one ends the process.
 */
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { JobError } from '../node/control/api.ts'
import { connectControl, socketPathFor } from '../node/control/client.ts'
import { defaultHome } from '../node/paths.ts'
import { EXIT } from '../protocol/errors.ts'
import { WAITS } from '../protocol/limits.ts'
import { runDaemon } from './daemon.ts'
import { runDoctor } from './doctor/verb.ts'
import { type Io, writeAll } from './io.ts'
import type { ShoalNode } from './local-node.ts'
import { type Answer, type Invocation, parseArguments, type VerbCall } from './program.ts'
import { Report } from './report.ts'
import { runService } from './service/verb.ts'
import { configOf, homeOf, type Need, openSession, stopNode, whenAborted } from './session.ts'
import { runImport } from './transfer/verbs.ts'
import { runVerb, type SessionCall } from './verbs.ts'

const OUTPUT_CLOSED = new JobError('INTERRUPTED', 'standard output was closed')

/** Runs `shoal` with these arguments (without node and script); resolves to the exit code, never rejects. */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  const interrupt = new AbortController()
  let interrupts = 0
  let onInterrupt = (): void => {}
  io.onInterrupt(() => {
    if (++interrupts > 1) io.exitNow(EXIT.interrupted)
    onInterrupt()
    interrupt.abort(new JobError('INTERRUPTED', 'interrupted'))
  })
  // Who closes our output wants no more of it (`shoal ls | head`).
  io.stdout.on('error', () => interrupt.abort(OUTPUT_CLOSED))
  io.stderr.on('error', () => {}) // nobody is left to tell
  const parsed = parseArguments(argv)
  if ('exitCode' in parsed) return await sayAnswer(parsed, argv.includes('--json'), io)
  const report = new Report(io, parsed.globals.json)
  // The bar hides the cursor, which nobody would bring back should the process end at the next one.
  onInterrupt = () => report.endProgress()
  try {
    return await run(parsed, io, report, interrupt.signal)
  } catch (error) {
    const failure = interrupt.signal.aborted ? interrupted(interrupt.signal) : asJobError(error)
    if (failure !== OUTPUT_CLOSED) await report.fail(failure, parsed.call.verb)
    return failure.exitCode
  } finally {
    report.end()
  }
}

async function sayAnswer(answer: Answer, isJson: boolean, io: Io): Promise<number> {
  if (answer.exitCode === EXIT.ok) await writeAll(io.stdout, `${answer.text.trimEnd()}\n`)
  else if (answer.help !== undefined && !isJson) await writeAll(io.stderr, `${answer.help.trimEnd()}\n`)
  else await new Report(io, isJson).fail(new JobError('USAGE', answer.text), null)
  return answer.exitCode
}

const interrupted = (signal: AbortSignal): JobError =>
  signal.reason instanceof JobError ? signal.reason : new JobError('INTERRUPTED', 'interrupted')

/** Whatever is no JobError here is a fault of ours. */
const asJobError = (error: unknown): JobError =>
  error instanceof JobError
    ? error
    : new JobError('BUG', `a fault in Shoal itself (${error instanceof Error ? `${error.name}: ${error.message}` : 'no Error'})`, {
        cause: error,
      })

const RUNNING: ReadonlySet<VerbCall['verb']> = new Set(['status', 'limits', 'peers', 'stop', 'metrics', 'log-level'] as const)

/** Which node each verb can do with. */
function needOf(call: SessionCall): Need {
  // What is only written into the config file needs no node that runs.
  if (call.verb === 'limits' && call.request.save) return 'offline'
  if (RUNNING.has(call.verb)) return 'running'
  if (
    call.verb === 'id' ||
    call.verb === 'export' ||
    call.verb === 'export-car' ||
    call.verb === 'import-car' ||
    call.verb === 'unseed' ||
    call.verb === 'gc' ||
    (call.verb === 'ls' && call.link === null)
  )
    return 'offline'
  if (call.verb === 'verify' && !call.repair) return 'offline'
  return 'online'
}

async function run({ globals, call }: Invocation, io: Io, report: Report, signal: AbortSignal): Promise<number> {
  if (call.verb === 'daemon') return await runDaemon(io, globals, call.logFile, report, signal)
  if (call.verb === 'doctor') {
    return await runDoctor(resolve(globals.home ?? defaultHome()), () => configOf(globals), report, signal)
  }
  if (call.verb === 'import') return await runImport(call, globals.home, { io, report, signal })
  if (call.verb === 'service') return await runService(call, globals, report)
  if (call.verb === 'get' && call.output === '-' && globals.json) {
    throw new JobError('USAGE', 'standard output cannot carry both the file and JSON: leave out --json or "-o -"')
  }
  const session = await openSession(io, globals, needOf(call), signal)
  try {
    if (session.own && call.verb === 'get' && call.keepSealed && !call.keep) {
      throw new JobError('USAGE', '--keep-sealed keeps nothing without a node that goes on: start `shoal daemon` first, or say --seed too')
    }
    const exitCode = await runVerb(call, { api: session.api, io, report, signal })
    if (call.verb === 'stop') {
      await whenGone(socketPathFor(homeOf(globals)), signal)
      await report.answer({ stopped: true }, '')
    }
    if (session.own) await stay(session.own, call, report, signal)
    return exitCode
  } finally {
    if (session.own) await stopNode(session.own)
  }
}

/** Commands that keep a share: their node serves it until Ctrl-C. */
const isKeeping = (call: VerbCall): boolean =>
  call.verb === 'share' || call.verb === 'seed' || (call.verb === 'get' && call.keep && call.output !== '-')

/** How long a node of ours lives on after its own command: those that keep a share serve until Ctrl-C, others until who joined is done. */
async function stay(node: ShoalNode, call: VerbCall, report: Report, signal: AbortSignal): Promise<void> {
  report.end()
  if (isKeeping(call)) {
    report.note('Serving from here until Ctrl-C. (With `shoal daemon` running, this command would return at once.)')
    await Promise.race([node.whenStopped(), whenAborted(signal)])
  } else {
    await Promise.race([node.whenIdle(), node.whenStopped(), whenAborted(signal)])
  }
}

const GONE_POLL_MS = 50

/** Waits until nobody answers on the socket, so that a new daemon can start right after `shoal stop`. */
async function whenGone(socketPath: string, signal: AbortSignal): Promise<void> {
  for (let waitedMs = 0; waitedMs < 2 * WAITS.stopMs; waitedMs += GONE_POLL_MS) {
    if ((await connectControl(socketPath)) === null) return
    await sleep(GONE_POLL_MS, undefined, { signal })
  }
  throw new JobError('BUSY', 'the node was asked to stop but still answers')
}
