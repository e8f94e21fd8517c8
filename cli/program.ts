/**
 * The grammar of the command line: argv in, one Invocation out. Nothing is done here, no file is read.
 *
 * Help and usage errors are returned as text, so that the caller decides where they go.
 */
import { Command, CommanderError, Option } from 'commander'
import { type ByteRange, JobError, type LimitsRequest, OWN_HINT, type ShareRequest, VERSION } from '../node/control/api.ts'
import { LOG_LEVELS } from '../node/log.ts'
import { EXIT } from '../protocol/errors.ts'
import { parseDuration } from './duration.ts'
import type { Globals } from './globals.ts'
import { addLimits, capsOf } from './limits.ts'
import { type LinkSource, linkSource } from './link-source.ts'
import { addOperating, type OperatingCall } from './program-operating.ts'
import { parseRate } from './rate.ts'

export type VerbCall =
  | OperatingCall
  | { verb: 'status'; isLimits: boolean }
  | { verb: 'peers' | 'id' | 'stop' }
  | { verb: 'limits'; request: LimitsRequest }
  | {
      verb: 'share'
      paths: string[]
      scope: ShareRequest['scope']
      name: string | null
      inPlace: boolean
      replaces: boolean
      hints: string[]
    }
  | {
      verb: 'get'
      link: LinkSource
      output: string
      path: string | null
      range: ByteRange | null
      peers: string[]
      force: boolean
      yes: boolean
      wait: boolean
      keep: boolean
      keepSealed: boolean
    }
  | { verb: 'seed'; link: LinkSource; peers: string[]; wait: boolean; keepForMs: number | null }
  | { verb: 'unseed'; link: LinkSource }
  | { verb: 'gc'; dryRun: boolean; yes: boolean }
  | { verb: 'verify'; links: LinkSource[]; repair: boolean; peers: string[]; wait: boolean }
  | { verb: 'ls'; link: LinkSource | null; path: string | null; peers: string[]; wait: boolean }

export type Invocation = { globals: Globals; call: VerbCall }

/** Text to print instead of doing anything: help, version, or what is wrong with the command line. */
export interface Answer {
  exitCode: number
  text: string
  /** Shown to people instead of `text`. */
  help?: string
}

const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value]
const peerOption = (): Option => new Option('--peer <address>', 'also try this address, /…/p2p/ID (repeatable)').argParser(collect)
const linkFileOption = (): Option =>
  new Option('--link-file <file>', 'read the link from a file, so that the process list does not show it')
const waitOption = (also = ''): Option => new Option('--wait', `keep looking while nobody is online${also}`)
// In a box, because commander makes something of a bare null.
const readCap = (text: string): { cap: number | null } => ({ cap: parseRate(text) })
/** A port as people type it. */
function readPort(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new JobError('USAGE', '--http is a port from 0 to 65535')
  return Number(text)
}

/** An address of a machine, as a path hardly ever looks. */
const ADDRESS = /^\/(ip4|ip6|dns[46]?|dnsaddr)\//
function collectHint(value: string, before: string[] | undefined): string[] {
  if (value !== OWN_HINT && !ADDRESS.test(value))
    throw new JobError('USAGE', '--hint takes an address like /ip4/5.9.0.2/tcp/4801; for those of this node write it behind the paths')
  return collect(value, before)
}

const NO_VERB = 'it was not said what to do: share, get, seed, …'
const LINK = 'share link or seed link; "-" reads it from standard input'

/** Takes the arguments apart (without node and script). Never throws for what a user typed. */
export function parseArguments(argv: readonly string[]): Invocation | Answer {
  let call: VerbCall | undefined
  const texts: string[] = []
  const program = grammar((found) => {
    call = found
  })
  const configure = (command: Command): void => {
    command.exitOverride()
    command.configureOutput({ writeOut: (text) => texts.push(text), writeErr: (text) => texts.push(text) })
    command.configureHelp({ showGlobalOptions: true })
    command.commands.forEach(configure)
  }
  configure(program)
  try {
    program.parse([...argv], { from: 'user' })
  } catch (error) {
    if (error instanceof JobError) return { exitCode: error.exitCode, text: error.message }
    if (!(error instanceof CommanderError)) throw error
    // commander ends --help and --version with 0, everything else with 1.
    if (error.exitCode === 0) return { exitCode: EXIT.ok, text: texts.join('') }
    // Without a verb commander prints the whole help as an error.
    if (error.code === 'commander.help') return { exitCode: EXIT.usage, text: NO_VERB, help: texts.join('') }
    return {
      exitCode: EXIT.usage,
      text: texts
        .join('')
        .replace(/^error: /, '')
        .trimEnd(),
    }
  }
  if (call === undefined) return { exitCode: EXIT.usage, text: NO_VERB, help: program.helpInformation() }
  const globals = globalsOf(program)
  if (globals.home === '') return { exitCode: EXIT.usage, text: '--home is empty' }
  // There the caps are what the verb is about, and nothing that a node starts with.
  if (call.verb === 'limits') {
    const request = { ...call.request, set: { ...call.request.set, ...capsOf(globals) } }
    return { globals: { ...globals, up: undefined, down: undefined, capLan: null }, call: { ...call, request } }
  }
  return { globals, call }
}

function globalsOf(program: Command): Globals {
  const given = program.opts<
    Partial<Omit<Globals, 'up' | 'down'>> & { up?: ReturnType<typeof readCap>; down?: ReturnType<typeof readCap> }
  >()
  return {
    home: given.home ?? null,
    json: given.json ?? false,
    verbose: given.verbose ?? false,
    network: given.network ?? null,
    bootstrap: given.bootstrap ?? null,
    listen: given.listen ?? null,
    mdns: given.mdns ?? null,
    logLevel: given.logLevel ?? null,
    http: given.http ?? null,
    up: given.up?.cap,
    down: given.down?.cap,
    capLan: given.capLan ?? null,
  }
}

function grammar(found: (call: VerbCall) => void): Command {
  const program = new Command('shoal')
    .description('Encrypted peer-to-peer file sharing with no server at all.')
    .version(VERSION, '--version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .option('--home <dir>', 'folder of the node (default: SHOAL_HOME, or the place for application data)')
    .option('--json', 'answer with JSON on standard output')
    .option('--network <name>', 'a network of its own, apart from the public one')
    .addOption(new Option('--bootstrap <address>', 'peer to ask first, /…/p2p/ID (repeatable)').argParser(collect))
    .addOption(new Option('--listen <address>', 'address to listen on (repeatable)').argParser(collect))
    .option('--mdns', 'find peers on the local network (default, except with --network)')
    .option('--no-mdns', 'stay silent on the local network')
    .addOption(new Option('--log-level <level>', 'what to log on standard error').choices([...LOG_LEVELS]))
    .addOption(new Option('--up <rate>', 'send at most so much a second, as 2MiB or 500kB; "none": no cap').argParser(readCap))
    .addOption(new Option('--down <rate>', 'receive at most so much a second').argParser(readCap))
    .addOption(new Option('--http <port>', 'offer the local API over HTTP on 127.0.0.1 and ::1 too; 0: any port').argParser(readPort))
    .option('--cap-lan', 'caps and volumes count the local network too')
    .option('--no-cap-lan', 'they do not (default)')
    .option('-v, --verbose', 'log what happens')
    .addHelpText(
      'after',
      '\nA link is a key. On the command line other users of this machine can see it: use --link-file or "-" where that matters.' +
        '\nExamples: shoal share photos | shoal get LINK -o there | shoal get LINK -o - --path song.flac | shoal seed SEED-LINK',
    )
  addShare(program, found)
  addGet(program, found)
  addSeed(program, found)
  addList(program, found)
  addOperating(program, found)
  addLimits(program, (request) => found({ verb: 'limits', request }))
  const plain = (verb: 'peers' | 'id' | 'stop', what: string, example: string): Command =>
    program
      .command(verb)
      .description(what)
      .addHelpText('after', `\nExample: ${example}`)
      .action(() => found({ verb }))
  program
    .command('status')
    .description('what the running node does')
    .option('--limits', 'every limit that peers and users can run into: how much of it is used, and how often it was hit')
    .addHelpText('after', '\nExamples: shoal status --json | shoal status --limits')
    .action((options: { limits?: true }) => found({ verb: 'status', isLimits: options.limits ?? false }))
  plain('peers', 'whom the running node is connected to', 'shoal peers')
  plain('id', 'the peer id and addresses of this home', 'shoal id')
  plain('stop', 'stop the running node', 'shoal stop')
  return program
}

interface ShareOptions {
  public?: true
  fresh?: true
  nodeScope?: true
  name?: string
  inPlace?: true
  replace?: true
  hint?: string[]
}

function addShare(program: Command, found: (call: VerbCall) => void): void {
  program
    .command('share')
    .description('publish files and folders; prints the link')
    .argument('<path...>', 'what to share')
    .addOption(
      new Option('--public', 'one file under a key that everybody who has the file can compute').conflicts(['fresh', 'nodeScope', 'name']),
    )
    .addOption(new Option('--fresh', 'a new link with new keys').conflicts(['public', 'nodeScope', 'name']))
    .addOption(new Option('--node-scope', 'share equal blocks with all other shares of this node').conflicts(['public', 'fresh', 'name']))
    .option('--in-place', 'keep no sealed copy: blocks are made from the files whenever somebody asks')
    .addOption(
      new Option('--replace', 'let go of what was shared from the same paths, or under the same name, before').conflicts([
        'public',
        'fresh',
        'nodeScope',
      ]),
    )
    .addOption(
      new Option(
        '--hint [address]',
        'write an address into the link, by default those of this node, so that it is found at once (repeatable)',
      )
        .preset(OWN_HINT)
        .argParser(collectHint),
    )
    .option('--name <name>', 'name the lineage: the same name gives versions of one share, wherever the files are')
    .addHelpText('after', '\nExamples: shoal share photos notes.txt | shoal share --in-place films | shoal share photos --hint')
    .action((paths: string[], options: ShareOptions) => {
      // An empty path would be the current folder, which nobody means who writes "$UNSET".
      if (paths.includes('')) throw new JobError('USAGE', 'an empty path was given')
      if (options.name === '') throw new JobError('USAGE', '--name is empty')
      const scope = options.public ? 'public' : options.fresh ? 'fresh' : options.nodeScope ? 'node' : 'lineage'
      const { name = null, inPlace = false, replace: replaces = false, hint: hints = [] } = options
      found({ verb: 'share', paths, scope, name, inPlace, replaces, hints })
    })
}

interface LinkOptions {
  linkFile?: string
  path?: string
  peer?: string[]
  wait?: true
}

function addGet(program: Command, found: (call: VerbCall) => void): void {
  type Options = LinkOptions & { output: string; range?: string; force?: true; yes?: true; seed?: true; keepSealed?: true }
  program
    .command('get')
    .description('fetch a share, or a part of it')
    .argument('[link]', LINK)
    .option('-o, --output <dir>', 'folder to write to; "-" streams one file to standard output', '.')
    .option('--path <sub>', 'only this file or folder of the share')
    .option('--range <bytes>', 'with "-o -": only these bytes, FIRST-LAST counted from 0, FIRST- to the end, or -N for the last N')
    .option('--force', 'replace files that stand in the way')
    .option('--yes', 'go on where Shoal would ask, as for a share that unpacks to far more than it weighs')
    .option('--seed', 'keep the share and serve it, also when no daemon runs')
    .option('--keep-sealed', 'keep a sealed copy as well, so that it is served when the files change or move')
    .addOption(waitOption(', and while the disk is full'))
    .addOption(peerOption())
    .addOption(linkFileOption())
    .addHelpText(
      'after',
      '\nExamples: shoal get LINK -o there | shoal get - -o there < link.txt | shoal get LINK --path a/b.txt -o -' +
        '\n          shoal get LINK -o - --range 1000-1999',
    )
    .action((link: string | undefined, options: Options) => {
      if (options.output === '') throw new JobError('USAGE', '--output is empty')
      if (options.output === '-' && (options.force || options.seed || options.keepSealed))
        throw new JobError('USAGE', '--force, --seed and --keep-sealed go with files, "-o -" writes none')
      if (options.range !== undefined && options.output !== '-') throw new JobError('USAGE', '--range goes with "-o -" only')
      found({
        verb: 'get',
        link: linkSource(link, options.linkFile),
        output: options.output,
        path: options.path ?? null,
        range: options.range === undefined ? null : rangeOf(options.range),
        peers: options.peer ?? [],
        force: options.force ?? false,
        yes: options.yes ?? false,
        wait: options.wait ?? false,
        keep: options.seed ?? false,
        keepSealed: options.keepSealed ?? false,
      })
    })
}

/** "FIRST-LAST", both included, "FIRST-", or "-N". */
function rangeOf(text: string): ByteRange {
  const [, first, last] = /^(\d{0,16})-(\d{0,16})$/.exec(text) ?? []
  const start = first === '' ? -Number(last) : Number(first)
  const end = first === '' || last === '' ? null : Number(last)
  // "-0", and no number at all, are no bytes.
  const isRange = Number.isSafeInteger(start) && !Object.is(start, -0) && Number.isSafeInteger(end ?? 0) && (end ?? start) >= start
  if (!isRange) throw new JobError('USAGE', '--range is FIRST-LAST, FIRST- or -N, in bytes')
  return { start, end }
}

function addSeed(program: Command, found: (call: VerbCall) => void): void {
  program
    .command('seed')
    .description('fetch and serve a share; a seed link is enough, nothing is read')
    .argument('[link]', LINK)
    .addOption(waitOption())
    .addOption(peerOption())
    .addOption(linkFileOption())
    .addOption(new Option('--keep-for <time>', 'let go of it after 12h, 30d or 2w (default: when it is unseeded)').argParser(parseDuration))
    .addHelpText('after', '\nExamples: shoal seed shoal:bafybei… | shoal seed shoal:bafybei… --keep-for 30d')
    .action((link: string | undefined, options: LinkOptions & { keepFor?: number }) => {
      const keepForMs = options.keepFor ?? null
      found({ verb: 'seed', link: linkSource(link, options.linkFile), peers: options.peer ?? [], wait: options.wait ?? false, keepForMs })
    })
  program
    .command('unseed')
    .description('stop serving a share and free its disk space')
    .argument('[link]', 'link or content ID of the share; "-" reads it from standard input')
    .addOption(linkFileOption())
    .addHelpText('after', '\nExample: shoal unseed bafybei…')
    .action((link: string | undefined, options: LinkOptions) => {
      found({ verb: 'unseed', link: linkSource(link, options.linkFile) })
    })
  program
    .command('verify')
    .description('check every block of the shares that this node keeps; no key is needed')
    .argument('[links...]', 'links or content IDs of shares (default: all)')
    .option('--repair', 'fetch what is damaged or missing from peers')
    .addOption(waitOption())
    .addOption(peerOption())
    .addHelpText('after', '\nExamples: shoal verify | shoal verify --repair bafybei…')
    .action((links: string[], options: { repair?: true; wait?: true; peer?: string[] }) => {
      if (!options.repair && (options.wait || options.peer)) throw new JobError('USAGE', '--wait and --peer go with --repair only')
      found({
        verb: 'verify',
        links: links.map((link) => linkSource(link, undefined)),
        repair: options.repair ?? false,
        peers: options.peer ?? [],
        wait: options.wait ?? false,
      })
    })
  program
    .command('gc')
    .description('delete blocks that no share needs, as left by what was aborted (a daemon does this by itself, too)')
    .option('--dry-run', 'only say what would be deleted')
    .option('--yes', 'also after the records were lost, when what nobody seems to need may be all that is left of a share')
    .addHelpText('after', '\nExample: shoal gc --dry-run')
    .action((options: { dryRun?: true; yes?: true }) => found({ verb: 'gc', dryRun: options.dryRun ?? false, yes: options.yes ?? false }))
}

function addList(program: Command, found: (call: VerbCall) => void): void {
  program
    .command('ls')
    .description('list what this node keeps, or the files of a share without fetching them')
    .argument('[link]', LINK)
    .option('--path <sub>', 'only this folder of the share')
    .addOption(waitOption())
    .addOption(peerOption())
    .addOption(linkFileOption())
    .addHelpText('after', '\nExamples: shoal ls | shoal ls LINK --path photos/2026')
    .action((link: string | undefined, options: LinkOptions) => {
      const isNone = link === undefined && options.linkFile === undefined
      if (isNone && (options.path !== undefined || options.peer !== undefined || options.wait)) {
        throw new JobError('USAGE', '--path, --peer and --wait need a link')
      }
      found({
        verb: 'ls',
        link: isNone ? null : linkSource(link, options.linkFile),
        path: options.path ?? null,
        peers: options.peer ?? [],
        wait: options.wait ?? false,
      })
    })
}
