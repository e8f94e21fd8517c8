import { describe, expect, it } from 'vitest'
import { type Invocation, parseArguments } from '../../cli/program.ts'
import { JUST_SHOW, VERSION } from '../../node/control/api.ts'
import { EXIT } from '../../protocol/errors.ts'
import { CID, LINK } from './fake-api.ts'

const callOf = (...argv: string[]): Invocation['call'] => {
  const parsed = parseArguments(argv)
  if ('exitCode' in parsed) throw new Error(parsed.text)
  return parsed.call
}

const globalsOf = (...argv: string[]): Invocation['globals'] => {
  const parsed = parseArguments(argv)
  if ('exitCode' in parsed) throw new Error(parsed.text)
  return parsed.globals
}

describe('the grammar of the command line', () => {
  it('takes options of every verb before and after it', () => {
    const expected = {
      home: '/h',
      json: true,
      verbose: false,
      network: 'lab',
      bootstrap: ['/a', '/b'],
      listen: null,
      mdns: false,
      logLevel: 'debug',
      http: null,
    }
    const options = [
      '--home',
      '/h',
      '--json',
      '--network',
      'lab',
      '--bootstrap',
      '/a',
      '--bootstrap',
      '/b',
      '--no-mdns',
      '--log-level',
      'debug',
    ]
    expect(globalsOf(...options, 'status')).toEqual({ ...expected, capLan: null })
    expect(globalsOf('status', ...options)).toEqual({ ...expected, capLan: null })
    expect(globalsOf('id')).toMatchObject({ home: null, json: false, mdns: null, logLevel: null, network: null, bootstrap: null })
    expect(globalsOf('id', '--mdns').mdns).toBe(true)
  })

  it('reads share with each scope', () => {
    expect(callOf('share', 'a', 'b')).toEqual({
      verb: 'share',
      paths: ['a', 'b'],
      scope: 'lineage',
      name: null,
      inPlace: false,
      replaces: false,
      hints: [],
    })
    expect(callOf('share', 'a', '--hint')).toMatchObject({ paths: ['a'], hints: ['own'] })
    expect(callOf('share', 'a', '--hint', '--hint', '/ip4/5.9.0.2/tcp/4801')).toMatchObject({ hints: ['own', '/ip4/5.9.0.2/tcp/4801'] })
    expect(callOf('share', 'a', '--fresh')).toMatchObject({ scope: 'fresh' })
    expect(callOf('share', 'a', '--public')).toMatchObject({ scope: 'public' })
    expect(callOf('share', 'a', '--node-scope')).toMatchObject({ scope: 'node' })
    expect(callOf('share', 'a', '--name', 'trip')).toMatchObject({ scope: 'lineage', name: 'trip' })
  })

  it('tells a CAR file from a home that is exported or imported', () => {
    const link = { from: 'argument', text: LINK }
    expect(callOf('export', LINK, '--car', 'a.car')).toEqual({ verb: 'export-car', link, file: 'a.car', force: false })
    expect(callOf('export', '--car', 'a.car', '--link-file', 'l', '--force')).toMatchObject({
      link: { from: 'file', path: 'l' },
      force: true,
    })
    expect(callOf('import', '--car', 'a.car')).toEqual({ verb: 'import-car', file: 'a.car' })
    expect(callOf('export', 'backup.age')).toMatchObject({ verb: 'export', file: 'backup.age' })
    expect(callOf('import', 'backup.age')).toMatchObject({ verb: 'import', file: 'backup.age' })
    for (const argv of [
      ['export'],
      ['export', 'backup.age', '--force'],
      ['export', 'backup.age', '--link-file', 'l'],
      ['export', '--car', 'a.car'],
      ['export', LINK, '--car', ''],
      ['export', LINK, '--car', 'a.car', '--no-passphrase'],
      ['export', LINK, '--car', 'a.car', '--passphrase-file', 'p'],
      ['import'],
      ['import', 'backup.age', '--car', 'a.car'],
      ['import', '--car', ''],
      ['import', '--car', 'a.car', '--passphrase-file', 'p'],
    ]) {
      expect(parseArguments(argv), argv.join(' ')).toMatchObject({ exitCode: EXIT.usage })
    }
  })

  it('takes nothing empty for a folder or a name: an unset variable must not share the current folder', () => {
    for (const argv of [
      ['share', ''],
      ['share', 'a', ''],
      ['share', 'a', '--name', ''],
      ['get', LINK, '-o', ''],
      ['id', '--home', ''],
    ]) {
      expect(parseArguments(argv)).toMatchObject({ exitCode: EXIT.usage, text: expect.stringContaining('empty') })
    }
  })

  it('says in a sentence what is wrong, and shows the whole help only where no verb was given', () => {
    expect(parseArguments(['nosuch'])).toEqual({ exitCode: EXIT.usage, text: "unknown command 'nosuch'" })
    expect(parseArguments([])).toMatchObject({ exitCode: EXIT.usage, help: expect.stringContaining('Commands:') })
    expect(parseArguments(['help', 'get'])).toMatchObject({ exitCode: EXIT.ok, text: expect.stringContaining('shoal get') })
  })

  it('reads get with all its options, and with none', () => {
    const link = { from: 'argument', text: LINK }
    expect(callOf('get', LINK)).toEqual({
      verb: 'get',
      link,
      output: '.',
      path: null,
      range: null,
      peers: [],
      force: false,
      yes: false,
      wait: false,
      keep: false,
      keepSealed: false,
    })
    const all = ['--path', 'a/b', '--peer', '/x', '--peer', '/y', '--yes', '--wait']
    const common = { verb: 'get', link, path: 'a/b', peers: ['/x', '/y'], yes: true, wait: true }
    expect(callOf('get', LINK, ...all, '-o', '-', '--range', '5-5')).toEqual({
      ...common,
      output: '-',
      range: { start: 5, end: 5 },
      force: false,
      keep: false,
      keepSealed: false,
    })
    expect(callOf('get', LINK, ...all, '-o', 'x', '--force', '--seed', '--keep-sealed')).toEqual({
      ...common,
      output: 'x',
      range: null,
      force: true,
      keep: true,
      keepSealed: true,
    })
    for (const option of ['--force', '--seed', '--keep-sealed'])
      expect(parseArguments(['get', LINK, '-o', '-', option])).toMatchObject({
        exitCode: EXIT.usage,
        text: expect.stringContaining(option),
      })
  })

  it('reads ranges with both ends included, as HTTP does', () => {
    const rangeOf = (text: string): unknown => callOf('get', LINK, '-o', '-', '--range', text)
    expect(rangeOf('0-0')).toMatchObject({ range: { start: 0, end: 0 } })
    expect(rangeOf('10-')).toMatchObject({ range: { start: 10, end: null } })
    expect(rangeOf('-300')).toMatchObject({ range: { start: -300, end: null } })
    for (const text of ['', '-', '5', '-0', '5-4', '1-2-3', 'a-b', '+1-2', '1.5-2', '9007199254740992-', '--5', ' 1-2']) {
      expect(parseArguments(['get', LINK, '-o', '-', '--range', text])).toMatchObject({ exitCode: EXIT.usage })
    }
    expect(parseArguments(['get', LINK, '--range', '0-1'])).toMatchObject({ exitCode: EXIT.usage, text: expect.stringContaining('-o -') })
  })

  it('takes a link from the command line, standard input or a file', () => {
    expect(callOf('get', '-')).toMatchObject({ link: { from: 'stdin' } })
    expect(callOf('seed', '--link-file', 'l.txt', '--peer', '/x', '--wait')).toEqual({
      verb: 'seed',
      link: { from: 'file', path: 'l.txt' },
      peers: ['/x'],
      keepForMs: null,
      wait: true,
    })
    expect(callOf('seed', CID, '--keep-for', '30d')).toMatchObject({ keepForMs: 30 * 86_400_000 })
    for (const wrong of ['30', '0d', '-1d', '1y', 'd', '99999w', '1.5h'])
      expect(parseArguments(['seed', CID, '--keep-for', wrong])).toMatchObject({ exitCode: EXIT.usage })
    expect(callOf('verify')).toEqual({ verb: 'verify', links: [], repair: false, peers: [], wait: false })
    expect(callOf('verify', '--repair', '--wait', '--peer', '/p', CID, '-')).toEqual({
      verb: 'verify',
      links: [{ from: 'argument', text: CID }, { from: 'stdin' }],
      repair: true,
      peers: ['/p'],
      wait: true,
    })
    expect(callOf('gc')).toEqual({ verb: 'gc', dryRun: false, yes: false })
    expect(callOf('gc', '--dry-run')).toEqual({ verb: 'gc', dryRun: true, yes: false })
    expect(callOf('gc', '--yes')).toMatchObject({ yes: true })
    expect(callOf('unseed', CID)).toEqual({ verb: 'unseed', link: { from: 'argument', text: CID } })
    expect(callOf('ls')).toEqual({ verb: 'ls', link: null, path: null, peers: [], wait: false })
    expect(callOf('ls', LINK, '--path', 'x')).toMatchObject({ link: { from: 'argument' }, path: 'x' })
  })

  it('refuses what makes no sense, with the exit code of usage', () => {
    const wrong = [
      [],
      ['fly'],
      ['status', 'now'],
      ['share'],
      ['share', 'a', '--public', '--fresh'],
      ['share', 'a', '--fresh', '--name', 'x'],
      ['get'],
      ['get', LINK, '--link-file', 'x'],
      ['get', LINK, LINK],
      ['get', LINK, '--fast'],
      ['ls', '--path', 'x'],
      ['daemon', '--log-level', 'loud'],
      ['daemon', '--up', 'fast'],
      ['limits', '--down', '1023'],
      ['limits', '--down'],
      ['id', '--home'],
    ]
    for (const argv of wrong) {
      const parsed = parseArguments(argv)
      expect('exitCode' in parsed ? parsed.exitCode : argv).toBe(EXIT.usage)
      expect('exitCode' in parsed && parsed.text.length > 10).toBe(true)
    }
  })

  it('reads caps before and after the verb, and hands them to limits as what it is about', () => {
    expect(globalsOf('daemon', '--up', '2MiB', '--down', 'none')).toMatchObject({ up: 2 ** 21, down: null })
    expect(globalsOf('--up', '500kB', 'get', LINK)).toMatchObject({ up: 500_000, down: undefined })
    expect(callOf('limits')).toEqual({ verb: 'limits', request: JUST_SHOW })
    const none = { set: { uploadBytesPerSecond: null }, reset: false, save: false }
    expect(callOf('limits', '--up', 'none')).toEqual({ verb: 'limits', request: none })
    expect(callOf('--no-cap-lan', 'limits', '--reset')).toEqual({
      verb: 'limits',
      request: { set: { lanExempt: true }, reset: true, save: false },
    })
    expect(globalsOf('daemon', '--cap-lan')).toMatchObject({ capLan: true })
    expect(globalsOf('limits', '--up', 'none')).toMatchObject({ up: undefined, down: undefined })
  })

  it('helps with an example for every verb, and tells its version', () => {
    for (const verb of ['daemon', 'share', 'get', 'seed', 'unseed', 'verify', 'gc', 'ls', 'status', 'limits', 'peers', 'id', 'stop']) {
      const help = parseArguments([verb, '--help'])
      expect(help).toMatchObject({ exitCode: EXIT.ok, text: expect.stringMatching(new RegExp(`Examples?: shoal ${verb}`)) })
      expect(help).toMatchObject({ text: expect.stringContaining('--home') })
    }
    expect(parseArguments(['--help'])).toMatchObject({ exitCode: EXIT.ok, text: expect.stringContaining('--link-file') })
    expect(parseArguments(['--version'])).toEqual({ exitCode: EXIT.ok, text: `${VERSION}\n` })
  })
})
