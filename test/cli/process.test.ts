import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type ShoalApi, VERSION } from '../../node/control/api.ts'
import { socketPathFor } from '../../node/control/client.ts'
import { serveControl } from '../../node/control/server.ts'
import { silentLog } from '../../node/log.ts'
import { EXIT } from '../../protocol/errors.ts'
import { fakeApi, KEY, LINK } from './fake-api.ts'
import { makeHome } from './home.ts'

const ROOT = resolve(import.meta.dirname, '../..')

/** Starts `node FILE ARGS` with SHOAL_HOME set; `done` resolves to what came of it. */
function start(home: string, argv: string[], script = join(ROOT, 'cli/main.ts'), flags: string[] = []) {
  const child = spawn(process.execPath, [...flags, script, ...argv], { env: { ...process.env, SHOAL_HOME: home }, cwd: ROOT })
  onTestFinished(() => void child.kill('SIGKILL'))
  const out = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text) => {
      out[name] += text
    })
  }
  const done = once(child, 'close').then(([code]) => ({ code, ...out }))
  return { child, done }
}

/** A daemon with a fake API, and its home. */
async function makeDaemon(override: Partial<ShoalApi> = {}) {
  const home = await makeHome()
  const api = fakeApi(override)
  const socketPath = socketPathFor(home)
  const server = await serveControl({ api, socketPath, log: silentLog, signal: new AbortController().signal })
  onTestFinished(() => server.close())
  return { home, api }
}

describe('the process of the command line', () => {
  it('talks to the daemon of SHOAL_HOME through its socket', async () => {
    const { home } = await makeDaemon()
    const { code, stdout, stderr } = await start(home, ['status', '--json']).done
    expect({ code, stderr }).toEqual({ code: EXIT.ok, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({ peerId: 'P1', pid: 7 })
  })

  it('reads a link from standard input, which its process list entry then does not show', async () => {
    const began = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    const plain = fakeApi()
    const { home, api } = await makeDaemon({
      async get(request, onEvent, signal) {
        began.resolve()
        await go.promise
        return await plain.get(request, onEvent, signal)
      },
    })
    const { child, done } = start(home, ['get', '-'])
    child.stdin.end(`${LINK}\n`)
    await began.promise
    const command = process.platform === 'linux' ? await readFile(`/proc/${child.pid}/cmdline`, 'utf8') : ''
    go.resolve()
    expect((await done).code).toBe(EXIT.ok)
    expect(command).not.toContain(KEY)
    expect(api.asked[0]?.request).toMatchObject({ link: LINK, outputDir: ROOT })
  })

  it('aborts the job of the daemon on SIGINT and exits 130', async () => {
    const began = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<void>()
    const { home } = await makeDaemon({
      async seed(_request, _onEvent, signal) {
        began.resolve()
        signal.addEventListener('abort', () => ended.resolve(), { once: true })
        return await new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
      },
    })
    const { child, done } = start(home, ['seed', LINK])
    await began.promise
    child.kill('SIGINT')
    const { code, stderr } = await done
    await ended.promise
    expect(code).toBe(EXIT.interrupted)
    expect(stderr).toContain('goes on where it stopped')
    expect(stderr).not.toContain(KEY)
  })

  it('writes a long stream whole before it exits', async () => {
    const { home } = await makeDaemon({
      async *cat() {
        for (let i = 0; i < 64; i++) yield new Uint8Array(65_536).fill(i + 32)
      },
    })
    const { code, stdout } = await start(home, ['get', LINK, '-o', '-']).done
    expect(code).toBe(EXIT.ok)
    expect(stdout.length).toBe(64 * 65_536)
  })
})

describe('the launcher', () => {
  it('starts the sources in the repository', async () => {
    const { code, stdout } = await start(await makeHome(), ['--version'], join(ROOT, 'cli/shoal.js')).done
    expect({ code, stdout }).toEqual({ code: EXIT.ok, stdout: `${VERSION}\n` })
  })

  it('starts the compiled program where no sources stand beside it', async () => {
    const place = await makeHome()
    for (const folder of ['cli', 'dist/cli']) await mkdir(join(place, folder), { recursive: true })
    await writeFile(join(place, 'package.json'), '{"type":"module"}')
    await writeFile(join(place, 'dist/cli/main.js'), 'console.log("compiled", process.argv[2])')
    await copyFile(join(ROOT, 'cli/shoal.js'), join(place, 'cli/shoal.js'))
    await symlink(join(place, 'cli/shoal.js'), join(place, 'shoal'))
    expect(await start(place, ['x'], join(place, 'shoal')).done).toMatchObject({ code: EXIT.ok, stdout: 'compiled x\n' })
  })

  it('says one sentence on a Node that is too old, and exits with a code of its own', async () => {
    const place = await makeHome()
    // An old Node as far as the launcher can see.
    await writeFile(
      join(place, 'old.cjs'),
      'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.20.2" } })',
    )
    const flags = ['--require', join(place, 'old.cjs')]
    const { code, stdout, stderr } = await start(place, ['id'], join(ROOT, 'cli/shoal.js'), flags).done
    expect({ code, stdout }).toEqual({ code: EXIT.oldNode, stdout: '' })
    expect(stderr).toMatch(/^Shoal needs Node 24 or newer; this is Node 20\.20\.2\. [^\n]+\n$/)
  })
})
