import { PassThrough } from 'node:stream'
import { expect, it } from 'vitest'
import type { Io } from '../../cli/io.ts'
import { Report } from '../../cli/report.ts'
import { runVerb } from '../../cli/verbs.ts'
import { EXIT } from '../../protocol/errors.ts'
import { CID, fakeApi, LINK } from './fake-api.ts'

async function verify(repair: boolean) {
  const api = fakeApi()
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const io = { stdin, stdout, stderr, cwd: '/desk' } as unknown as Io // the verb uses nothing else
  const call = { verb: 'verify' as const, links: [{ from: 'argument' as const, text: LINK }], repair, peers: [], wait: false }
  const code = await runVerb(call, { api, io, report: new Report(io, false), signal: new AbortController().signal })
  return { code, api, out: String(stdout.read()) }
}

it('tells of damage with an exit code of its own, and of what was mended', async () => {
  const found = await verify(false)
  expect(found.code).toBe(EXIT.damagedShare)
  expect(found.api.asked).toEqual([{ verb: 'verify', request: { cids: [CID], repair: false, wait: false, peers: [] } }])
  expect(found.out).toContain(`${CID}: 1 damaged, 2 missing; not repaired\n`)
  expect(found.out).toContain('shoal verify --repair')
  const mended = await verify(true)
  expect(mended.code).toBe(EXIT.ok)
  expect(mended.out).toBe(`${CID}: 1 damaged, 2 missing; 3 fetched anew\n1 share, 9 blocks, 9.00 MiB checked: all is well\n`)
})
