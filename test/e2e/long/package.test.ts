/**
 * The package as users get it: packed, unpacked elsewhere beside nothing but its declared dependencies, run and imported from there.
 *
 * Offline: the dependencies are links to those of this checkout. That they can be fetched is for `npm install` to say.
 */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, realpath, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GetResult, ShareResult } from '../../../node/control/api.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { runCli, Sandbox, startCli } from '../../kit/daemons.ts'
import { compareTrees } from '../../kit/trees.ts'

const ROOT = resolve(import.meta.dirname, '../../..')
const SOURCES = ['cli', 'node', 'protocol', 'bench', 'test', 'package.json', 'tsconfig.json', 'tsconfig.base.json', 'biome.json']
const PAPERS = ['README.md', 'CHANGELOG.md', 'SECURITY.md', 'LICENSE']
const run = promisify(execFile)

let sandbox: Sandbox
/** The folder that a user installed Shoal in. */
let place: string
let files: string[]
let cli: string

async function link(name: string): Promise<void> {
  await mkdir(dirname(join(place, 'node_modules', name)), { recursive: true })
  await symlink(await realpath(join(ROOT, 'node_modules', name)), join(place, 'node_modules', name))
}

beforeAll(async () => {
  sandbox = await Sandbox.create()
  const copy = sandbox.path('copy')
  for (const name of [...SOURCES, ...PAPERS]) await cp(join(ROOT, name), join(copy, name), { recursive: true })
  await symlink(await realpath(join(ROOT, 'node_modules')), join(copy, 'node_modules'))
  const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', sandbox.dir], { cwd: copy })
  place = sandbox.path('place')
  const installed = join(place, 'node_modules', 'shoal')
  await mkdir(installed, { recursive: true })
  await run('tar', ['-xzf', sandbox.path(stdout.trim()), '--strip-components=1', '-C', installed])
  const manifest: { dependencies: Record<string, string> } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'))
  for (const name of [...Object.keys(manifest.dependencies), '@types/node']) await link(name)
  files = (await readdir(installed, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(installed.length + 1))
  cli = join(installed, 'cli', 'shoal.js')
}, 120_000)

afterAll(async () => {
  await sandbox.clear()
})

describe('the package', () => {
  it('holds what runs, its papers and the specification, and no source, test or build record', () => {
    expect(files).toEqual(expect.arrayContaining(['cli/shoal.js', 'dist/cli/main.js', 'dist/node/main.d.ts', 'dist/protocol/index.js']))
    expect(files).toEqual(expect.arrayContaining(['dist/node/crypto/worker.js', 'dist/node/storage/records-worker.js']))
    expect(files).toEqual(expect.arrayContaining([...PAPERS, 'protocol/README.md', 'protocol/wire/README.md', 'protocol/swarm/README.md']))
    expect(files.filter((file) => /(^|\/)(test|bench|node_modules)\/|\.test\.|\.tsbuildinfo$|(?<!\.d)\.ts$/.test(file))).toEqual([])
  })

  it('shares and gets between two homes', async () => {
    const folder = sandbox.path('photos')
    await mkdir(join(folder, 'deep'), { recursive: true })
    await writeFile(join(folder, 'deep', 'a.bin'), new Uint8Array(3_000_000).fill(7))
    await writeFile(join(folder, 'b.txt'), 'hello')
    const listen = startCli(['daemon', '--json', '--home', sandbox.path('home-a'), ...sandbox.networkArgs()], { cli })
    const [line] = (await once(listen.stdout!, 'data')) as [Buffer] // a child's output gives Buffers
    const { addresses }: { addresses: string[] } = JSON.parse(line.toString())
    const shared = await runCli(['share', '--json', '--home', sandbox.path('home-a'), folder], { cli })
    expect(shared.code, shared.stdout + shared.stderr).toBe(EXIT.ok)
    const { link: address } = JSON.parse(shared.stdout) as ShareResult // printed by share --json
    const out = sandbox.path('out')
    const args = ['get', '--json', '--home', sandbox.path('home-b'), ...sandbox.networkArgs(addresses), address, '-o', out]
    const got = await runCli(args, { cli })
    expect(got.code, got.stdout + got.stderr).toBe(EXIT.ok)
    expect((JSON.parse(got.stdout) as GetResult).files).toBe(2)
    expect((await compareTrees(folder, join(out, 'photos'))).differences).toEqual([])
    expect((await runCli(['stop', '--home', sandbox.path('home-a')], { cli })).code).toBe(EXIT.ok)
    if (listen.exitCode === null) await once(listen, 'exit')
  })

  it('can be imported, as a node and as the protocol alone', async () => {
    const script = "const a = await import('shoal'), b = await import('shoal/protocol'); console.log(typeof a.openNode, typeof b.parseLink)"
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: place })
    expect(stdout).toBe('function function\n')
  })

  it('brings its types', async () => {
    await writeFile(join(place, 'package.json'), '{"type":"module"}')
    const lines = [
      "import { openNode, type Config, type ShoalApi } from 'shoal'",
      "import { parseLink } from 'shoal/protocol'",
      'export const use = async (config: Config): Promise<ShoalApi> => (await openNode(config, { oneShot: true, log: undefined as never })).api',
      'export const parse: (text: string) => unknown = parseLink as never',
      '// @ts-expect-error: nothing of that name',
      "import { nothing } from 'shoal/protocol'",
    ]
    await writeFile(join(place, 'use.ts'), `${lines.join('\n')}\n`)
    const flags = [
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2024',
      '--lib',
      'es2024,esnext.disposable',
      '--types',
      'node',
    ]
    const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
    const checked = await run(process.execPath, [tsc, ...flags, '--skipLibCheck', 'use.ts'], { cwd: place }).then(
      () => '',
      (error: { stdout: string }) => error.stdout,
    )
    expect(checked).toBe('')
  })

  it.skipIf(!existsSync('/usr/bin/node'))('says in one sentence that the Node is too old', async () => {
    const { stdout: version } = await run('/usr/bin/node', ['--version'])
    if (Number(/^v(\d+)/.exec(version)?.[1]) >= 24) return
    const failed: { code: number; stdout: string; stderr: string } = await run('/usr/bin/node', [cli, 'status']).then(
      () => expect.fail('it should not have started'),
      (error) => error,
    )
    expect(failed).toMatchObject({
      code: EXIT.oldNode,
      stdout: '',
      stderr: expect.stringMatching(/^Shoal needs Node 24 or newer[^\n]*\n$/),
    })
  })
})
