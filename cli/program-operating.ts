/** The part of the grammar that is about running a node: the daemon, its log, its figures. */
import { Argument, type Command } from 'commander'
import { LOG_LEVELS, type LogLevel } from '../node/log.ts'

export type OperatingCall = { verb: 'daemon'; logFile: boolean } | { verb: 'metrics' } | { verb: 'log-level'; level: LogLevel | null }

/** Adds these verbs to the grammar. */
export function addOperating(program: Command, found: (call: OperatingCall) => void): void {
  program
    .command('daemon')
    .description('run a node in the foreground until Ctrl-C')
    .option('--log-file', 'log to daemon.log in the home, which is kept small, and not on standard error')
    .addHelpText('after', '\nExamples: shoal daemon --listen /ip4/0.0.0.0/tcp/4801 | shoal daemon --http 4802')
    .action((options: { logFile?: true }) => found({ verb: 'daemon', logFile: options.logFile ?? false }))
  program
    .command('log-level')
    .description('show what the running node logs, or set it until the node stops')
    .addArgument(new Argument('[level]', 'the most that is logged').choices([...LOG_LEVELS]))
    .addHelpText('after', '\nExample: shoal log-level debug')
    .action((level: LogLevel | undefined) => found({ verb: 'log-level', level: level ?? null }))
  program
    .command('metrics')
    .description('the figures of the running node, as Prometheus reads them')
    .addHelpText('after', '\nExample: shoal metrics | grep shoal_share_bytes_total')
    .action(() => found({ verb: 'metrics' }))
}
