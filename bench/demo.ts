/**
 * `npm run demo`: the main job, with real processes. Three daemons that have nothing in common but a bootstrap address:
 * A shares a folder, B hosts it blind, A is killed, C gets the folder from B by the link. Then the bytes are compared and B is searched.
 */

import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { GetResult, SeedResult, ShareResult } from '../node/control/api.ts'
import { Sandbox } from '../test/kit/daemons.ts'
import { findPlaintext } from '../test/kit/search.ts'
import { compareTrees, copySources } from '../test/kit/trees.ts'

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url))

const say = (text: string): void => void process.stdout.write(`${text}\n`)
const mib = (bytes: number): string => `${(bytes / 1_048_576).toFixed(1)} MiB`
const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(2)} s`

async function main(): Promise<void> {
  const sandbox = await Sandbox.create()
  const onSignal = (): void => void sandbox.clear().then(() => process.exit(130))
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  try {
    await story(sandbox)
  } finally {
    await sandbox.clear()
    say('Cleaned up: every process ended, every folder of the demo removed.')
  }
}

async function story(sandbox: Sandbox): Promise<void> {
  const folder = sandbox.path('holiday')
  await makeFolder(folder)
  say(`Shoal demo, all on this machine, on the separate network "${sandbox.network}".`)
  say('')
  say('1. Four processes start: a bootstrap node that shares nothing, and the daemons A, B and C, which know only its address.')
  const bootstrap = await sandbox.daemon('bootstrap')
  const options = { bootstrap: bootstrap.addresses, args: ['--log-level', 'debug'] }
  const [a, b, c] = await Promise.all([sandbox.daemon('a', options), sandbox.daemon('b', options), sandbox.daemon('c', options)])
  say(`   bootstrap ${bootstrap.addresses[0]}`)
  for (const [name, daemon] of Object.entries({ A: a, B: b, C: c }))
    say(`   ${name} is peer ${daemon.started.peerId}, process ${daemon.started.pid}`)

  say('')
  say(`2. A shares a folder: the sources of Shoal, a large binary file, a text in Greek, an empty file and an empty folder.`)
  let since = performance.now()
  const shared = await a.json<ShareResult>('share', folder)
  say(`   ${shared.files} files, ${mib(shared.sizeBytes)}, sealed to ${mib(shared.wireBytes)} in ${seconds(since)}`)
  say(`   share link  ${shared.link}`)
  say(`   seed link   ${shared.seedLink}`)

  say('')
  say('3. B gets only the seed link and hosts the share blind: it finds A on the DHT and fetches every block.')
  since = performance.now()
  const seeded = await b.json<SeedResult>('seed', shared.seedLink, '--wait')
  say(`   ${seeded.fetchedBlocks} blocks, ${mib(seeded.fetchedBytes)}, in ${seconds(since)}`)

  say('')
  say('4. A is killed (SIGKILL). Only B has the blocks now, and B cannot read them.')
  await a.kill('SIGKILL')

  say('')
  say('5. C gets the folder by the share link. The only peer that can answer is B.')
  since = performance.now()
  const out = sandbox.path('out')
  await mkdir(out)
  const got = await c.json<GetResult>('get', shared.link, '-o', out, '--wait')
  say(`   ${got.files} files, ${mib(got.sizeBytes)}, in ${seconds(since)}`)

  say('')
  say('6. The bytes are compared.')
  const compared = await compareTrees(folder, join(out, 'holiday'))
  if (compared.differences.length > 0) throw new Error(`the copies differ: ${compared.differences.slice(0, 5).join('; ')}`)
  say(`   ${compared.files} files and ${compared.folders} folders are identical, modes included`)

  say('')
  say("7. B's home folder and its log at debug level are searched for any name or plaintext of the share, and for the key.")
  const found = await findPlaintext({ folder, link: shared.link, inDir: b.home, texts: { 'log of B': b.log } })
  if (found.hits.length > 0) throw new Error(`found: ${found.hits.slice(0, 5).join('; ')}`)
  say(`   searched ${found.filesSearched} files, ${mib(found.bytesSearched)}, for ${found.needles} needles: none found`)
  say('')
  say('All steps passed.')
}

/** A folder worth sharing: real sources, a large file that does not compress, other scripts, empty things, an executable. */
async function makeFolder(folder: string): Promise<void> {
  await mkdir(join(folder, 'empty folder'), { recursive: true })
  await copySources(REPOSITORY, join(folder, 'shoal'))
  await writeFile(join(folder, 'video.bin'), randomBytes(24 * 1_048_576))
  await writeFile(join(folder, 'Ημερολόγιο.txt'), 'Πρώτη μέρα: θάλασσα, ήλιος και ένα κοπάδι ψάρια γύρω από τη βάρκα.\n'.repeat(40))
  await writeFile(join(folder, 'nothing'), '')
  await writeFile(join(folder, 'run.sh'), '#!/bin/sh\necho a very recognisable line of this script\n', { mode: 0o755 })
}

await main()
