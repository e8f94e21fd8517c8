/**
 * Daemons on a small disk of their own: it fills up while they share, get and host, and there is room again; it is mounted read-only over
 * what they use, and writable again.
 *
 * No file system is made read-only while a file of it is open for writing, and the records always are. So the same disk is mounted once
 * more, read-only, over the home: whatever is opened or named from then on is refused, as on a disk that was remounted.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { OnEvent } from '../../node/control/api.ts'
import { NODE } from '../../protocol/limits.ts'
import { Row } from './table.ts'
import { ACTS, type Act, judgeLag, noteLag, type Scene, settle, Victim } from './victim.ts'

/** A `get` begins only where 64 MiB are left beside what it writes. */
const DISK_MIB = 160
const SEED_MS_MAX = 2 * NODE.resumedRetryMs
const CHUNK = new Uint8Array(2 ** 16).fill(0x5a)

/** A file system in memory, with a home and a place for output; the home stands where the daemon called `name` looks for it. */
export class SmallDisk {
  readonly root: string
  readonly home: string
  readonly out: string
  #covers: string[] = []

  constructor(scene: Scene, name: string) {
    this.root = scene.sandbox.path(`disk-${name}`)
    this.home = scene.sandbox.path(`home-${name}`)
    this.out = join(this.root, 'out')
    mkdirSync(this.root)
    mkdirSync(this.home)
    mount('-t', 'tmpfs', '-o', `size=${DISK_MIB}m,mode=700`, 'tmpfs', this.root)
    for (const path of [join(this.root, 'home'), this.out]) mkdirSync(path, { mode: 0o700 })
    mount('--bind', join(this.root, 'home'), this.home)
  }

  static isPossible(): boolean {
    return process.platform === 'linux' && process.geteuid?.() === 0 && spawnSync('mount', ['--version']).status === 0
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.root)
    return bavail * bsize
  }

  /** Takes all the room but so much. */
  fill(leaveBytes: number): void {
    const file = openSync(join(this.root, 'filler'), 'a')
    try {
      while (this.freeBytes > leaveBytes) writeSync(file, CHUNK)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error
    } finally {
      closeSync(file)
    }
  }

  makeRoom(): void {
    rmSync(join(this.root, 'filler'), { force: true })
  }

  /** Mounts home and output once more over themselves, read-only. */
  protect(): void {
    for (const path of [this.home, this.out]) {
      mount('--bind', path, path)
      this.#covers.push(path)
      mount('-o', 'remount,bind,ro', path)
    }
  }

  unprotect(): void {
    for (const path of this.#covers.splice(0)) unmount(path)
  }

  remove(): void {
    this.unprotect()
    unmount(this.home)
    unmount(this.root)
  }
}

function mount(...args: string[]): void {
  const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`mount ${args.join(' ')}: ${stderr}`)
}

// Something may still be open in it for a moment: then it goes when that is closed.
function unmount(path: string): void {
  spawnSync('umount', ['--lazy', path])
}

/** What happens to a disk, and how it is mended. */
interface Mishap {
  name: string
  /** Of these acts: before they begin, or at their first sign of progress. */
  before: Act['name'][]
  during: Act['name'][]
  /** What must succeed all the same. */
  mustPass?: Act['name']
  strike(disk: SmallDisk): void
  mend(disk: SmallDisk): void
}

const ROOM_LEFT_BYTES = 3 * 2 ** 20

const MISHAPS: Mishap[] = [
  {
    name: 'small disk, full',
    before: ['share', 'get', 'unseed'],
    during: [],
    mustPass: 'unseed', // it makes room
    strike: (disk) => disk.fill(0),
    mend: (disk) => disk.makeRoom(),
  },
  {
    name: 'small disk that fills up',
    before: ['share'],
    during: ['get'],
    strike: (disk) => disk.fill(ROOM_LEFT_BYTES),
    mend: (disk) => disk.makeRoom(),
  },
  { name: 'read-only', before: ['share', 'get', 'unseed'], during: [], strike: (disk) => disk.protect(), mend: (disk) => disk.unprotect() },
  {
    name: 'read-only on the way',
    before: [],
    during: ['share', 'get'],
    strike: (disk) => disk.protect(),
    mend: (disk) => disk.unprotect(),
  },
]

/** Each mishap has a daemon of its own. */
export async function spoilDisks(scene: Scene, tell: (row: Row) => void): Promise<void> {
  for (const [i, mishap] of MISHAPS.entries()) {
    await onSmallDisk(scene, `small-${i}`, async (victim, disk) => {
      for (const act of ACTS) {
        if ([...mishap.before, ...mishap.during].includes(act.name)) tell(await spoil(victim, disk, mishap, act))
      }
    })
  }
  await onSmallDisk(scene, 'small-seed', async (victim, disk) => tell(await seedGoesOn(victim, disk)))
}

async function onSmallDisk(scene: Scene, name: string, work: (victim: Victim, disk: SmallDisk) => Promise<void>): Promise<void> {
  const disk = new SmallDisk(scene, name)
  try {
    // Without space that it leaves free, or it would stop before the disk does. Its log lies on the same disk.
    writeFileSync(join(disk.home, 'config.json'), JSON.stringify({ freeBytesKept: 0 }), { mode: 0o600 })
    const victim = await Victim.start(scene, name, { out: join(disk.out, 'got'), args: ['--log-file', '--down', '8MiB'] })
    await work(victim, disk)
    await victim.stop()
  } finally {
    disk.remove()
  }
}

async function spoil(victim: Victim, disk: SmallDisk, mishap: Mishap, act: Act): Promise<Row> {
  const row = new Row(`${mishap.name}: ${act.name}`)
  row.at('the only trial')
  row.trials++
  await act.prepare(victim)
  await noteLag(row, victim)
  let isDue = true
  const strike = (): void => {
    if (isDue) mishap.strike(disk)
    if (isDue) row.struck++
    isDue = false
  }
  if (mishap.before.includes(act.name)) strike()
  const onEvent: OnEvent = (event) => {
    if (event.type === 'progress' && event.phase !== 'find' && event.doneBytes > 0) strike()
  }
  const outcome = await victim.attempt(() => act.run(victim, onEvent))
  if (outcome === 'done') row.passed++
  else row.refuse(outcome)
  strike() // it was quicker
  if (mishap.mustPass === act.name && outcome !== 'done') row.fault(`it was refused with ${outcome}`)
  const unserved = await victim.serves()
  if (unserved !== null) row.fault(unserved)
  mishap.mend(disk)
  await settle(row, victim, act, outcome)
  judgeLag(row)
  return row
}

/** Blind seeding that a full disk stopped: it goes on without anybody asking for it. */
async function seedGoesOn(victim: Victim, disk: SmallDisk): Promise<Row> {
  const row = new Row('small disk that fills up: seed, by itself')
  row.at('the only trial')
  row.trials++
  const { link, origin } = victim.scene
  await noteLag(row, victim)
  disk.fill(ROOM_LEFT_BYTES)
  row.struck++
  const signal = AbortSignal.timeout(SEED_MS_MAX)
  const outcome = await victim.attempt(() => victim.api.seed({ link, wait: false, peers: origin.addresses }, () => {}, signal))
  if (outcome === 'done') row.fault('it fits')
  else row.refuse(outcome)
  disk.makeRoom()
  const isComplete = async (): Promise<boolean> => (await victim.api.shares(signal)).every(({ state }) => state === 'complete')
  try {
    while (!(await isComplete())) await sleep(500, undefined, { signal })
    row.resumed++
  } catch (error) {
    row.fault(`it does not go on: ${String(error)}`)
  }
  for (const fault of [...(await victim.faults()), ...(await victim.clean())]) {
    row.wrong = 1
    row.fault(fault)
  }
  await noteLag(row, victim)
  judgeLag(row)
  return row
}
