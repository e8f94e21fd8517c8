/**
 * The first hour of a share: peers come one after another, find each other by the DHT and by what neighbours tell, and leave when they are
 * done or a minute later. Each one's time is compared with the fluid model's for the same arrivals.
 */
import { Crowd } from './crowd.ts'
import { fluidTimes } from './fluid.ts'
import { IdleWatch } from './idle.ts'
import { OTHER } from './lines.ts'
import { Meeting } from './meeting.ts'
import { blockMs, type Member } from './members.ts'
import { type Form, HOME_DOWN, HOME_UP, ORIGIN_UP } from './model.ts'
import { Random } from './random.ts'
import { type Common, commonOf, type Phase, phasesOf, printCommon, startNow } from './report.ts'
import { quantile } from './tally.ts'

const LOOK = OTHER
const ARRIVE = OTHER + 1
const DEPART = OTHER + 2
const LOOK_MS = 10_000
const HOUR_MS = 3_600_000
const STAY_MS = 60_000
const STAYING_SHARE = 0.5
/** When a crowd is not through after so long, it is stuck. */
const END_MAX_MS = 2 * HOUR_MS

export interface HourResult extends Common {
  form: 'hour'
  medianSeconds: number
  p99Seconds: number
  fluidMedianSeconds: number
  fluidP99Seconds: number
  medianToFluid: number
  p99ToFluid: number
  /** Medians of those behind NAT, who meet fewer, and of the others. */
  natedMedianSeconds: number
  openMedianSeconds: number
  aliveMax: number
  findsPerPeer: number
  providesPerPeer: number
  dialsPerPeer: number
  dialsFailedPerPeer: number
  refusalsPerPeer: number
  exchangesPerPeer: number
  phases: Phase[]
  /** Seconds from coming to having all, sorted. */
  times: number[]
  /** The slowest hundredth. */
  slowest: Straggler[]
}

/** One that took long, with what may be the reason. */
export interface Straggler {
  seconds: number
  arrivedSeconds: number
  isNated: boolean
  /** Neighbours when it was done. */
  neighbours: number
}

interface Visit {
  arrivalMs: number
  stayMs: number
}

/** A Poisson process of `peers` arrivals in the mean; drawn apart from everything else, so the model sees the same. */
function visitsOf(peers: number, seed: number): Visit[] {
  const random = new Random(seed * 7919 + 1)
  const visits: Visit[] = []
  for (let atMs = 0; visits.length < peers; ) {
    atMs += (-Math.log(1 - random.next()) * HOUR_MS) / peers
    visits.push({ arrivalMs: Math.ceil(atMs), stayMs: random.next() < STAYING_SHARE ? STAY_MS : 0 })
  }
  return visits
}

class Hour implements Form {
  readonly crowd: Crowd
  readonly meeting: Meeting
  readonly idle: IdleWatch
  readonly times: number[] = []
  readonly stragglers: Straggler[] = []
  /** How many more are there in each second. */
  readonly change: number[] = []
  aliveMax = 0
  readonly #visits: Visit[]
  readonly #alive = new Map<number, Member>()
  readonly #onLook: (crowd: Crowd) => void
  #arrived = 0

  constructor(peers: number, blocks: number, seed: number, onLook: (crowd: Crowd) => void) {
    this.#onLook = onLook
    this.crowd = new Crowd(seed, blocks, this)
    this.meeting = new Meeting(this.crowd, seed)
    this.idle = new IdleWatch(new Random(~seed))
    this.#visits = visitsOf(peers, seed)
    this.meeting.enter(this.crowd.add(true), true)
    this.crowd.wheel.add(LOOK_MS / 2, LOOK, 0, 0)
    this.#planArrival()
  }

  get visits(): readonly Visit[] {
    return this.#visits
  }

  get isOver(): boolean {
    return this.crowd.tally.finished === this.#visits.length
  }

  finished(member: Member): void {
    const { finishedMs, joinedMs, isNated, halves } = member
    const seconds = (finishedMs - joinedMs) / 1000
    this.times.push(seconds)
    this.stragglers.push({ seconds, arrivedSeconds: joinedMs / 1000, isNated, neighbours: halves.length })
    const { stayMs } = this.#visits[member.id - 1]!
    if (stayMs > 0) this.meeting.settle(member)
    this.crowd.wheel.add(this.crowd.wheel.now + stayMs, DEPART, member.id, 0)
  }

  gained(member: Member, half: Member['halves'][number]): void {
    this.meeting.gained(member, half)
  }

  left(member: Member, half: Member['halves'][number]): void {
    this.meeting.left(member, half)
  }

  due(kind: number, a: number, b: number): void {
    const { wheel, members } = this.crowd
    if (kind === LOOK) {
      this.idle.look([...this.#alive.values()], wheel.now)
      this.#onLook(this.crowd)
      wheel.add(wheel.now + LOOK_MS, LOOK, 0, 0)
    } else if (kind === ARRIVE) this.#arrive()
    else if (kind === DEPART) this.#depart(members[a]!)
    else this.meeting.due(kind, a, b)
  }

  /** What all uplinks had to give between two times, in milliseconds of sending. */
  aliveMs(fromMs: number, untilMs: number): number {
    let [alive, sum] = [0, 0]
    for (let second = 0; second * 1000 < untilMs; second++) {
      alive += this.change[second] ?? 0
      if (second * 1000 >= fromMs) sum += alive * 1000
    }
    return sum
  }

  #planArrival(): void {
    const visit = this.#visits[this.#arrived]
    if (visit !== undefined) this.crowd.wheel.add(visit.arrivalMs, ARRIVE, 0, 0)
  }

  #arrive(): void {
    this.#arrived++
    this.#planArrival()
    const member = this.crowd.add(false)
    this.#alive.set(member.id, member)
    this.aliveMax = Math.max(this.aliveMax, this.#alive.size)
    this.#count(1)
    this.meeting.enter(member, false)
  }

  #depart(member: Member): void {
    this.#alive.delete(member.id)
    this.#count(-1)
    this.meeting.leave(member)
    this.crowd.remove(member)
  }

  #count(change: 1 | -1): void {
    const second = Math.floor(this.crowd.wheel.now / 1000)
    while (this.change.length <= second) this.change.push(0)
    this.change[second]! += change
  }
}

/** `onLook` is called every ten seconds of the world. */
export function runHour(peers: number, blocks: number, seed: number, onLook: (crowd: Crowd) => void = () => {}): HourResult {
  const start = startNow()
  const hour = new Hour(peers, blocks, seed, onLook)
  const { crowd, meeting } = hour
  crowd.run(() => hour.isOver, END_MAX_MS)
  const times = hour.times.sort((a, b) => a - b)
  const rates = { originUp: 1 / blockMs(ORIGIN_UP), up: 1 / blockMs(HOME_UP), down: 1 / blockMs(HOME_DOWN) }
  const model = fluidTimes(hour.visits, blocks, rates)
    .map((ms) => ms / 1000)
    .sort((a, b) => a - b)
  const [median, p99, fluidMedian, fluidP99] = [quantile(times, 0.5), quantile(times, 0.99), quantile(model, 0.5), quantile(model, 0.99)]
  return {
    form: 'hour',
    ...commonOf(crowd, { peers, seed, start }),
    medianSeconds: median,
    p99Seconds: p99,
    fluidMedianSeconds: fluidMedian,
    fluidP99Seconds: fluidP99,
    medianToFluid: median / fluidMedian,
    p99ToFluid: p99 / fluidP99,
    natedMedianSeconds: medianOf(hour.stragglers.filter(({ isNated }) => isNated)),
    openMedianSeconds: medianOf(hour.stragglers.filter(({ isNated }) => !isNated)),
    aliveMax: hour.aliveMax,
    findsPerPeer: meeting.finds / peers,
    providesPerPeer: meeting.provides / peers,
    dialsPerPeer: meeting.dials / peers,
    dialsFailedPerPeer: meeting.dialsFailed / peers,
    refusalsPerPeer: meeting.refusals / peers,
    exchangesPerPeer: meeting.exchanges / peers,
    phases: phasesOf(crowd, hour.idle, crowd.wheel.now, (fromMs, untilMs) => hour.aliveMs(fromMs, untilMs)),
    times,
    slowest: hour.stragglers.sort((a, b) => b.seconds - a.seconds).slice(0, Math.ceil(peers / 100)),
  }
}

const medianOf = (peers: { seconds: number }[]): number =>
  quantile(
    peers.map(({ seconds }) => seconds).sort((a, b) => a - b),
    0.5,
  )

const SLOWEST_SHOWN = 5

const say = ({ seconds, arrivedSeconds, isNated, neighbours }: Straggler): string =>
  `${seconds.toFixed(0)} s (came at ${arrivedSeconds.toFixed(0)} s, ${neighbours} neighbours${isNated ? ', behind NAT' : ''})`

export function printHour(result: HourResult): string {
  const { peers, blocks, seed, finished, medianSeconds, p99Seconds, fluidMedianSeconds, fluidP99Seconds, aliveMax, slowest } = result
  const each = (['finds', 'provides', 'dials', 'dialsFailed', 'refusals', 'exchanges'] as const).map(
    (name) => `${name} ${result[`${name}PerPeer`].toFixed(2)}`,
  )
  return [
    `first hour of ${peers}, ${blocks} blocks, seed ${seed}: ${finished} finished, at most ${aliveMax} at a time`,
    `  own time       median ${medianSeconds.toFixed(1)} s, p99 ${p99Seconds.toFixed(1)} s; fluid model ${fluidMedianSeconds.toFixed(1)} s and ${fluidP99Seconds.toFixed(1)} s: ${result.medianToFluid.toFixed(3)} and ${result.p99ToFluid.toFixed(3)} of it`,
    `  by place       median behind NAT ${result.natedMedianSeconds.toFixed(1)} s, others ${result.openMedianSeconds.toFixed(1)} s`,
    `  a peer         ${each.join(', ')}`,
    `  slowest        ${slowest.slice(0, SLOWEST_SHOWN).map(say).join('; ')}`,
    ...printCommon(result, result.phases),
  ].join('\n')
}
