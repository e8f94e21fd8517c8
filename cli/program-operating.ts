/** The part of the grammar that is about running a node: the daemon, its log, its figures. */
import { Argument, type Command, Option } from 'commander'
import { LOG_LEVELS, type LogLevel } from '../node/log.ts'
import type { ServiceCall } from './service/verb.ts'
import type { ExportCall, ImportCall } from './transfer/verbs.ts'

export type OperatingCall =
  | { verb: 'daemon'; logFile: boolean }
  | { verb: 'metrics' }
  | { verb: 'log-level'; level: LogLevel | null }
  | ServiceCall
  | { verb: 'doctor' }
  | ExportCall
  | ImportCall

/** Adds these verbs to the grammar. */
export function addOperating(program: Command, found: (call: OperatingCall) => void): void {
  program
    .command('daemon')
    .description('run a node in the foreground until Ctrl-C')
    .option('--log-file', 'log to daemon.log in the home, which is kept small, and not on standard error')
    .addHelpText('after', '\nExamples: shoal daemon --listen /ip4/0.0.0.0/tcp/4801 | shoal daemon --http 4802')
    .action((options: { logFile?: true }) => found({ verb: 'daemon', logFile: options.logFile ?? false }))
  addService(program, found)
  program
    .command('doctor')
    .description('what is wrong with this computer, home and node, and what to do; changes nothing')
    .addHelpText('after', '\nExample: shoal doctor --json')
    .action(() => found({ verb: 'doctor' }))
  addTransfer(program, found)
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

function addService(program: Command, found: (call: OperatingCall) => void): void {
  program
    .command('service')
    .description('run the daemon as a service of this user: systemd on Linux, launchd on macOS')
    .addArgument(new Argument('<action>', 'install, uninstall or status').choices(['install', 'uninstall', 'status']))
    .addOption(new Option('--dry-run', 'print what would be written and run, and do nothing'))
    .addHelpText('after', '\nExamples: shoal service install --dry-run | shoal service status')
    .action((action: ServiceCall['action'], options: { dryRun?: true }) => {
      found({ verb: 'service', action, dryRun: options.dryRun ?? false })
    })
}

function addTransfer(program: Command, found: (call: OperatingCall) => void): void {
  const passphraseOption = (): Option => new Option('--passphrase-file <file>', 'the first line of this file is the passphrase')
  program
    .command('export')
    .description('write identity, keys, records and settings to one file, under a passphrase; no blocks')
    .argument('<file>', 'file to write; it must not exist')
    .addOption(passphraseOption())
    .addOption(new Option('--no-passphrase', 'do not encrypt: whoever reads the file can read all your shares').conflicts('passphraseFile'))
    .addHelpText('after', '\nExample: shoal export backup.age')
    .action((file: string, options: { passphraseFile?: string; passphrase: boolean }) => {
      found({ verb: 'export', file, passphraseFile: options.passphraseFile ?? null, noPassphrase: !options.passphrase })
    })
  program
    .command('import')
    .description('make a home of an exported file; the home must not exist or be empty')
    .argument('<file>', 'what `shoal export` wrote')
    .addOption(passphraseOption())
    .addHelpText('after', '\nExample: shoal import backup.age --home ~/shoal-restored')
    .action((file: string, options: { passphraseFile?: string }) => {
      found({ verb: 'import', file, passphraseFile: options.passphraseFile ?? null })
    })
}
