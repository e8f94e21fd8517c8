/**
 * Daemons whose disk goes wrong while they run: full, read-only, failing or very slow syncs, too few descriptors. What is asked for fails
 * with a word on what to do, or waits; the daemon lives and serves; once the disk is mended the same command succeeds.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GetResult, ShareResult, StatusResult } from '../../../node/control/api.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { type Daemon, runCli, Sandbox } from '../../kit/daemons.ts'
import { canInject, inject } from '../../kit/faulty.ts'

const BLOCK = 1_048_560
const WRITES = 'pwrite64,pwritev,rename,link,unlink,mkdir,ftruncate'

let sandbox: Sandbox
let origin: Daemon
let victim: Daemon
let numbers = 0

beforeAll(async () => {
  sandbox = await Sandbox.create()
  origin = await sandbox.daemon('origin')
  victim = await sandbox.daemon('victim', { bootstrap: origin.addresses })
})
afterAll(() => sandbox.clear())

interface Wanted {
  link: string
  bytes: Uint8Array
  out: string
  file: string
}

/** A new share of the origin, and where to get it to. */
async function share(by: Daemon = origin): Promise<Wanted> {
  const name = `data-${numbers++}.bin`
  const bytes = randomBytes(2 * BLOCK + 77)
  await writeFile(sandbox.path(name), bytes)
  const { link } = await by.json<ShareResult>('share', sandbox.path(name))
  const out = sandbox.path(`out-${name}`)
  await mkdir(out)
  return { link, bytes, out, file: join(out, name) }
}

const getBy = (daemon: Daemon, { link, out }: Wanted) => daemon.run('get', link, '-o', out, '--peer', origin.addresses[0] ?? '')

async function expectServes(daemon: Daemon, kept: Wanted): Promise<void> {
  const out = sandbox.path(`served-${numbers++}`)
  await mkdir(out)
  const args = ['get', kept.link, '-o', out, '--peer', daemon.addresses[0] ?? '', '--home', sandbox.path(`guest-${numbers++}`), '--json']
  const run = await runCli([...args, ...sandbox.networkArgs()])
  expect(run.code, run.stdout + run.stderr).toBe(0)
  const { written } = JSON.parse(run.stdout) as GetResult // printed by `get --json`
  expect(await readFile(written[0] ?? '')).toEqual(Buffer.from(kept.bytes))
}

describe.skipIf(!canInject())('a disk that goes wrong under a daemon (needs strace)', () => {
  it.each([
    ['is full', WRITES, 'error=ENOSPC', EXIT.noSpace, /disk full/],
    ['is read-only', WRITES, 'error=EROFS', EXIT.badInput, /read-only/],
    ['fails every write', 'pwrite64', 'error=EIO', EXIT.badInput, /EIO/],
    ['fails every sync', 'fsync,fdatasync', 'error=EIO', EXIT.badInput, /EIO|sync|disk I\/O error/],
  ])(
    'that %s: a get says so, the daemon lives and serves, and the same get succeeds when it is mended',
    async (_, calls, fault, code, says) => {
      const kept = await share(victim)
      const wanted = await share()
      const faulty = await inject(victim.started.pid, calls, fault)
      try {
        const failed = await getBy(victim, wanted)
        expect(failed.stderr).toMatch(says)
        expect(failed.code).toBe(code)
        expect((await victim.json<StatusResult>('status')).jobs).toBe(0)
        await expectServes(victim, kept)
      } finally {
        await faulty.mend()
      }
      const again = await getBy(victim, wanted)
      expect(again.code, again.stderr).toBe(0)
      expect(await readFile(wanted.file)).toEqual(Buffer.from(wanted.bytes))
      expect(victim.log).not.toMatch(/nobody listened|a fault in Shoal/)
    },
  )

  it('that takes two seconds for a sync: a get waits for it, and the daemon answers meanwhile', async () => {
    const kept = await share(victim)
    const wanted = await share()
    const faulty = await inject(victim.started.pid, 'fsync,fdatasync', 'delay_enter=2000000')
    try {
      const getting = getBy(victim, wanted)
      expect((await victim.json<StatusResult>('status')).pid).toBe(victim.started.pid)
      await expectServes(victim, kept)
      const done = await getting
      expect(done.code, done.stderr).toBe(0)
    } finally {
      await faulty.mend()
    }
    expect(await readFile(wanted.file)).toEqual(Buffer.from(wanted.bytes))
  })
})

describe.skipIf(process.platform !== 'linux')('a daemon with 256 descriptors', () => {
  it('lives through 1,000 dials, and gets what it is asked for once they are gone', async () => {
    const poor = await sandbox.daemon('poor', { bootstrap: origin.addresses, prefix: ['sh', '-c', 'ulimit -n 256; exec "$@"', 'sh'] })
    const [, host = '', port = ''] = /\/ip4\/([^/]+)\/tcp\/(\d+)/.exec(poor.addresses[0] ?? '') ?? []
    const sockets: Socket[] = []
    for (let i = 0; i < 1_000; i++) {
      // From many addresses, or the limits by neighbourhood would do all the work.
      const socket = connect({ host, port: Number(port), localAddress: `127.0.${i % 250}.${1 + (i >> 2)}` })
      socket.on('error', () => {})
      sockets.push(socket)
    }
    await Promise.all(sockets.slice(0, 50).map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])))
    const wanted = await share()
    for (const socket of sockets) socket.destroy()
    const run = await poor.run('get', wanted.link, '-o', wanted.out, '--wait', '--peer', origin.addresses[0] ?? '')
    expect(run.code, run.stderr).toBe(0)
    expect(await readFile(wanted.file)).toEqual(Buffer.from(wanted.bytes))
    expect(poor.child.exitCode).toBeNull()
  })
})
