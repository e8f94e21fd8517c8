/**
 * `npm run mutants [-- NAME…]`: puts deliberate faults into a copy of the sources, one at a time, and checks that the test which each
 * patch names fails because of it. A fault that no test notices is printed as SURVIVED and ends the run with 1.
 *
 * A patch in this folder begins with
 *   # mutant: what is broken
 *   # test: test/file.test.ts :: the full name of the test
 * followed by a diff that `git apply` takes.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'

export interface Header {
  what: string
  file: string
  name: string
}

interface Mutant extends Header {
  id: string
  path: string
}

type Outcome = 'caught' | 'SURVIVED' | 'BROKEN'

const ROOT = resolve(import.meta.dirname, '../..')
const RUN_MS = 10 * 60_000

/** The header of a patch, null when it has none. */
export function parseHeader(text: string): Header | null {
  const what = /^# mutant: (\S.*)$/m.exec(text)?.[1]
  const [, file, name] = /^# test: (test\/\S+\.test\.ts) :: (\S.*)$/m.exec(text) ?? []
  return what && file && name ? { what: what.trim(), file, name: name.trim() } : null
}

/** What happened to one test: from vitest's own report, so that a file that does not even load is not taken for a caught mutant. */
type Seen = 'passed' | 'failed' | 'absent'

/** vitest filters by "describe > test" and reports "describe test"; a header may use either. */
const plainName = (name: string): string => name.replaceAll(' > ', ' ').trim()

const namePattern = (name: string): string =>
  plainName(name)
    .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replaceAll(' ', '( > | )')

interface VitestReport {
  testResults: { name: string; assertionResults: { title: string; fullName: string; status: string }[] }[]
}

function runTests(copy: string, mutants: Header[]): (mutant: Header) => Seen {
  const report = join(copy, 'mutants-report.json')
  rmSync(report, { force: true })
  const files = [...new Set(mutants.map(({ file }) => file))]
  const names = mutants.map(({ name }) => namePattern(name))
  const argv = [
    'node_modules/vitest/vitest.mjs',
    'run',
    ...files,
    '-t',
    `(${names.join('|')})$`,
    '--reporter=json',
    `--outputFile=${report}`,
  ]
  spawnSync(process.execPath, argv, { cwd: copy, timeout: RUN_MS, stdio: 'ignore' })
  let found: VitestReport
  try {
    found = JSON.parse(readFileSync(report, 'utf8'))
  } catch {
    return () => 'absent' // vitest did not come as far as a report
  }
  return ({ file, name }) => {
    const tests = found.testResults
      .filter((result) => resolve(result.name) === resolve(copy, file))
      .flatMap((result) => result.assertionResults)
      .filter((test) => plainName(test.fullName) === plainName(name) || test.title === name)
    if (tests.some(({ status }) => status === 'failed')) return 'failed'
    return tests.some(({ status }) => status === 'passed') ? 'passed' : 'absent'
  }
}

function git(cwd: string, ...argv: string[]): { ok: boolean; out: string } {
  // The copy may stand below some other repository; git must not take it for a part of that.
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: dirname(cwd) }
  const { status, stdout, stderr } = spawnSync('git', argv, { cwd, env, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
  return { ok: status === 0, out: status === 0 ? stdout : stderr }
}

/** Copies what git knows of the working tree, changes included. */
function copyTree(copy: string): void {
  const listed = git(ROOT, 'ls-files', '-z', '--cached', '--others', '--exclude-standard')
  if (!listed.ok) throw new Error(`git ls-files: ${listed.out}`)
  for (const path of listed.out.split('\0').filter(Boolean)) {
    mkdirSync(dirname(join(copy, path)), { recursive: true })
    cpSync(join(ROOT, path), join(copy, path), { force: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
}

function tryMutant(copy: string, mutant: Mutant): { outcome: Outcome; why: string } {
  const applied = git(copy, 'apply', mutant.path)
  if (!applied.ok) return { outcome: 'BROKEN', why: `the patch does not apply: ${applied.out.trim()}` }
  const seen = runTests(copy, [mutant])(mutant)
  const reverted = git(copy, 'apply', '--reverse', mutant.path)
  if (!reverted.ok) throw new Error(`cannot take ${mutant.id} back: ${reverted.out}`)
  if (seen === 'failed') return { outcome: 'caught', why: '' }
  return seen === 'passed'
    ? { outcome: 'SURVIVED', why: `"${mutant.name}" passes all the same` }
    : { outcome: 'BROKEN', why: `"${mutant.name}" did not run` }
}

function readMutants(only: string[]): Mutant[] {
  return readdirSync(import.meta.dirname)
    .filter((name) => name.endsWith('.patch') && (only.length === 0 || only.includes(basename(name, '.patch'))))
    .sort()
    .map((name) => {
      const path = join(import.meta.dirname, name)
      const header = parseHeader(readFileSync(path, 'utf8'))
      if (header === null) throw new Error(`${name} has no header`)
      return { id: basename(name, '.patch'), path, ...header }
    })
}

function main(only: string[]): number {
  const mutants = readMutants(only)
  const strange = only.filter((name) => !mutants.some(({ id }) => id === name))
  if (strange.length > 0) {
    console.error(`there is no mutant "${strange.join('", "')}"`)
    return 2
  }
  const copy = mkdtempSync(join(tmpdir(), 'shoal-mutants-'))
  let caught = 0
  try {
    copyTree(copy)
    const unpatched = mutants.length === 0 ? () => 'absent' as const : runTests(copy, mutants)
    for (const mutant of mutants) {
      const before = unpatched(mutant)
      const { outcome, why } =
        before === 'passed'
          ? tryMutant(copy, mutant)
          : { outcome: 'BROKEN' as const, why: `"${mutant.name}" is ${before} without the patch` }
      if (outcome === 'caught') caught++
      console.log(`${outcome.padEnd(9)} ${mutant.id.padEnd(28)} ${mutant.what}${why === '' ? '' : `\n          ${why}`}`)
    }
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
  console.log(`${caught} passed, ${mutants.length - caught} failed`)
  return caught === mutants.length ? 0 : 1
}

if (import.meta.main) process.exitCode = main(process.argv.slice(2))
