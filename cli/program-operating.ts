/** The part of the grammar that is about running a node: the daemon, its log, its figures. */
import { Argument, type Command, Option } from 'commander'
import { JobError } from '../node/control/api.ts'
import { LOG_LEVELS, type LogLevel } from '../node/log.ts'
import { linkSource } from './link-source.ts'
import type { ServiceCall } from './service/verb.ts'
import type { ExportCarCall, ImportCarCall } from './transfer/car.ts'
import type { ExportCall, ImportCall } from './transfer/verbs.ts'

export type OperatingCall =
  | { verb: 'daemon'; logFile: boolean }
  | { verb: 'metrics' }
  | { verb: 'log-level'; level: LogLevel | null }
  | ServiceCall
  | { verb: 'doctor' }
  | ExportCall
  | ImportCall
  | ExportCarCall
  | ImportCarCall

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
    .description('write identity, keys, records and settings to one file, under a passphrase; or with --car the sealed blocks of a share')
    .argument('[what]', 'file to write, which must not exist; with --car the link or content ID of a share that is kept here')
    .addOption(passphraseOption())
    .addOption(new Option('--no-passphrase', 'do not encrypt: whoever reads the file can read all your shares').conflicts('passphraseFile'))
    .addOption(
      new Option('--car <file>', 'write the sealed blocks of a share to a CAR file, as IPFS nodes import it; no key is in it').conflicts(
        'passphraseFile',
      ),
    )
    .option('--force', 'with --car: replace a file that stands there')
    .option('--link-file <file>', 'with --car: read the link from a file')
    .addHelpText('after', '\nExamples: shoal export backup.age | shoal export LINK --car photos.car (then: ipfs dag import photos.car)')
    .action((what: string | undefined, options: ExportOptions) => found(exportCall(what, options)))
  program
    .command('import')
    .description('make a home of an exported file (it must not exist, or be empty); or with --car keep and serve a share from a CAR file')
    .argument('[file]', 'what `shoal export` wrote')
    .addOption(passphraseOption())
    .addOption(
      new Option('--car <file>', 'a CAR file that holds a share, as of `shoal export --car` or `ipfs dag export`').conflicts(
        'passphraseFile',
      ),
    )
    .addHelpText('after', '\nExamples: shoal import backup.age --home ~/shoal-restored | shoal import --car photos.car')
    .action((file: string | undefined, options: { passphraseFile?: string; car?: string }) => found(importCall(file, options)))
}

interface ExportOptions {
  passphraseFile?: string
  passphrase: boolean
  car?: string
  force?: true
  linkFile?: string
}

function exportCall(what: string | undefined, options: ExportOptions): ExportCall | ExportCarCall {
  const { car, force = false, linkFile, passphraseFile = null, passphrase } = options
  if (car !== undefined) {
    if (car === '') throw new JobError('USAGE', '--car is empty')
    if (!passphrase) throw new JobError('USAGE', '--no-passphrase does not go with --car: there is nothing secret in it')
    return { verb: 'export-car', link: linkSource(what, linkFile), file: car, force }
  }
  if (force || linkFile !== undefined) throw new JobError('USAGE', '--force and --link-file go with --car only')
  if (what === undefined) throw new JobError('USAGE', 'it was not said which file to write')
  return { verb: 'export', file: what, passphraseFile, noPassphrase: !passphrase }
}

function importCall(file: string | undefined, options: { passphraseFile?: string; car?: string }): ImportCall | ImportCarCall {
  const { car, passphraseFile = null } = options
  if (car !== undefined && file !== undefined) throw new JobError('USAGE', 'give either FILE or --car FILE, not both')
  const named = car ?? file
  if (named === undefined || named === '') throw new JobError('USAGE', 'it was not said which file to read')
  return car !== undefined ? { verb: 'import-car', file: named } : { verb: 'import', file: named, passphraseFile }
}
