/** A flash crowd: everybody is there at once, has said hello to some others at random, and stays to the end. */
import { Crowd } from './crowd.ts'
import { IdleWatch } from './idle.ts'
import { OTHER } from './lines.ts'
import { blockMs, type Member } from './members.ts'
import { type Form, HOME_DOWN, HOME_UP, NEIGHBOURS_MAX, ORIGIN_UP } from './model.ts'
import { Random } from './random.ts'
import { type Common, commonOf, type Phase, phasesOf, printCommon, startNow } from './report.ts'
import { quantile } from './tally.ts'

const LOOK = OTHER
const LOOK_MS = 10_000
/** A crowd that is not done after so many times the bound is stuck. */
const BOUNDS_MAX = 30

export interface FlashResult extends Common {
  form: 'flash'
  boundSeconds: number
  lastSeconds: number
  medianSeconds: number
  p99Seconds: number
  lastToBound: number
  phases: Phase[]
  /** When each one finished, in seconds, sorted. */
  finishes: number[]
}

/** No scheme can serve everybody sooner: the origin, the slowest line, and all uplinks together. */
export function flashBoundMs(peers: number, blocks: number): number {
  const alone = blocks * blockMs(ORIGIN_UP)
  return Math.max(alone, blocks * blockMs(HOME_DOWN), peers * blocks * blockMs(ORIGIN_UP + peers * HOME_UP))
}

/** `onLook` is called every ten seconds of the world. */
export function runFlash(peers: number, blocks: number, seed: number, onLook: (crowd: Crowd) => void = () => {}): FlashResult {
  const start = startNow()
  const finishes: number[] = []
  const idle = new IdleWatch(new Random(~seed))
  const form: Form = {
    finished: ({ finishedMs }) => finishes.push(finishedMs / 1000),
    gained: () => {},
    left: () => {},
    due: () => {
      idle.look(crowd.members, crowd.wheel.now)
      onLook(crowd)
      crowd.wheel.add(crowd.wheel.now + LOOK_MS, LOOK, 0, 0)
    },
  }
  const crowd = new Crowd(seed, blocks, form)
  const members = [crowd.add(true)]
  for (let i = 0; i < peers; i++) members.push(crowd.add(false))
  introduce(crowd, members)
  const boundMs = flashBoundMs(peers, blocks)
  crowd.wheel.add(LOOK_MS / 2, LOOK, 0, 0)
  crowd.run(() => crowd.tally.finished === peers, boundMs * BOUNDS_MAX)
  const lastMs = crowd.tally.lastFinishedMs
  return {
    form: 'flash',
    ...commonOf(crowd, { peers, seed, start }),
    boundSeconds: boundMs / 1000,
    lastSeconds: lastMs / 1000,
    medianSeconds: quantile(finishes, 0.5),
    p99Seconds: quantile(finishes, 0.99),
    lastToBound: lastMs / boundMs,
    phases: phasesOf(crowd, idle, lastMs, (fromMs, untilMs) => (untilMs - fromMs) * peers),
    finishes,
  }
}

/** A random graph: everybody draws partners until it has enough, or no luck any more. Two behind NAT cannot meet. */
function introduce(crowd: Crowd, members: Member[]): void {
  const order = members.slice(1)
  crowd.random.shuffle(order)
  for (const member of [members[0]!, ...order]) {
    for (let draws = 0; member.halves.length < NEIGHBOURS_MAX && draws < NEIGHBOURS_MAX * 8; draws++) {
      const other = members[crowd.random.below(members.length)]!
      if (other === member || other.halves.length >= NEIGHBOURS_MAX || (member.isNated && other.isNated)) continue
      if (!member.halfOf.has(other.key)) crowd.connect(member, other, true)
    }
  }
}

export function printFlash(result: FlashResult): string {
  const { peers, blocks, seed, finished, boundSeconds, lastSeconds, medianSeconds, p99Seconds, lastToBound } = result
  return [
    `flash crowd of ${peers}, ${blocks} blocks, seed ${seed}: ${finished} finished`,
    `  finished       last ${lastSeconds.toFixed(1)} s, p99 ${p99Seconds.toFixed(1)} s, median ${medianSeconds.toFixed(1)} s; bound ${boundSeconds.toFixed(1)} s, last/bound ${lastToBound.toFixed(3)}`,
    ...printCommon(result, result.phases),
  ].join('\n')
}
