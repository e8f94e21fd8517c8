/**
 * `npm run bench:crowd`: how long one origin and N getters on lines of a home's speed take until all have the file, and beside it the
 * same crowd with libtorrent where Debian's python3-libtorrent is installed.
 *
 * Options: --getters N and --mib N for one crowd of that size alone, --up and --down its caps in MiB/s; --long adds 512 MiB for 25;
 * --only shoal|libtorrent; --introduce K tells each getter of Shoal of K others, so that finding them is left out of the time.
 */
import { parseArgs } from 'node:util'
import { Sandbox } from '../test/kit/daemons.ts'
import { type Crowd, type CrowdFigures, describeCrowd, printCrowd } from './crowd-figures.ts'
import { runShoalCrowd } from './crowd-shoal.ts'
import { findLibtorrent, runTorrentCrowd } from './crowd-torrent.ts'
import { hashFile, MIB, makeRandomFile, say } from './meters.ts'

const CROWDS: Crowd[] = [
  { getters: 10, mib: 64, upBytes: 2 * MIB, downBytes: 8 * MIB },
  { getters: 25, mib: 64, upBytes: 2 * MIB, downBytes: 8 * MIB },
  { getters: 50, mib: 64, upBytes: MIB, downBytes: 4 * MIB },
]
const LONG: Crowd = { getters: 25, mib: 512, upBytes: 2 * MIB, downBytes: 8 * MIB }

const { values } = parseArgs({
  options: {
    getters: { type: 'string' },
    mib: { type: 'string', default: '64' },
    up: { type: 'string', default: '2' },
    down: { type: 'string', default: '8' },
    long: { type: 'boolean', default: false },
    only: { type: 'string' },
    introduce: { type: 'string', default: '0' },
  },
})

function chosen(): Crowd[] {
  if (values.getters === undefined)
    return [...CROWDS.map((crowd) => ({ ...crowd, mib: Number(values.mib) })), ...(values.long ? [LONG] : [])]
  const [getters, mib, up, down] = [values.getters, values.mib, values.up, values.down].map(Number)
  if (!getters || !mib || !up || !down) throw new Error('--getters, --mib, --up and --down take numbers above 0')
  return [{ getters, mib, upBytes: up * MIB, downBytes: down * MIB }]
}

async function run(crowd: Crowd): Promise<void> {
  const sandbox = await Sandbox.create()
  const onSignal = (): void => void sandbox.clear().then(() => process.exit(130))
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  try {
    say(`\n${describeCrowd(crowd)}`)
    const source = sandbox.path('crowd.bin')
    await makeRandomFile(source, crowd.mib * MIB)
    const digest = await hashFile(source)
    if (values.only !== 'libtorrent')
      await report('Shoal', crowd, () => runShoalCrowd(sandbox, crowd, source, digest, Number(values.introduce)))
    if (values.only === 'shoal') return
    const found = findLibtorrent()
    if (found === null) say('libtorrent  skipped: no Python here has it (Debian: python3-libtorrent)')
    else
      await report(`libtorrent ${found.version}`, crowd, () =>
        runTorrentCrowd(found.python, sandbox.path('torrents'), crowd, source, digest),
      )
  } finally {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
    await sandbox.clear()
  }
}

/** One that fails is said and does not keep the others from running. */
async function report(name: string, crowd: Crowd, work: () => Promise<CrowdFigures>): Promise<void> {
  try {
    printCrowd(name, crowd, await work(), say)
  } catch (error) {
    say(`${name} FAILED: ${error instanceof Error ? error.message : String(error)}`)
    process.exitCode = 1
  }
}

for (const crowd of chosen()) await run(crowd)
