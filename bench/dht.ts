/**
 * `npm run bench:dht`: a DHT of 60 nodes of which one in five goes each minute and is replaced by a newcomer: how many look-ups find a
 * seeder that is there, how long they and the announcements take, and what an idle client and an idle server send and receive.
 *
 * Nodes are stacks as the daemon has them, some dozens to a process, on loopback, with a host each so that the rules by neighbourhood
 * apply. Whoever goes closes its port: dials to it fail at once, while a computer that is switched off would keep them waiting. Traffic is
 * what the sockets of a process carry, without the heads of TCP and IP. Options: --nodes N (60), --churn PERCENT a minute (20),
 * --seconds N (180), --processes N (3), --json.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Member, Party } from './dht-party.ts'
import { CpuMeter, median, say } from './meters.ts'

const MINUTE_MS = 60_000
/** A look-up that takes longer has failed. */
const FIND_MS = 10_000
/** Between look-ups, and between announcements. */
const FIND_EVERY_MS = 500
const PROVIDE_EVERY_MS = 1_000
/** Looked for again so soon and so often, while an announcement is on its way. */
const USABLE_EVERY_MS = 250
const USABLE_TRIES = 6
/** After the last node has come. */
const SETTLE_MS = 15_000

interface Announced {
  key: string
  by: Member
}

interface Figures {
  nodes: number
  churnPercent: number
  seconds: number
  finds: number
  found: number
  findMedianMs: number
  findP95Ms: number
  usableMedianMs: number
  usableMaxMs: number
  provideMedianMs: number
  toldMedian: number
  announced: number
  neverUsable: number
  clientBytesPerSecond: number
  serverBytesPerSecond: number
  tableMedian: number
  cpuPercent: number
}

const percentile = (values: number[], part: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ?? Number.NaN

class Run {
  readonly #party: Party
  readonly #announced: Announced[] = []
  readonly #findMs: number[] = []
  readonly #usableMs: number[] = []
  readonly #provideMs: number[] = []
  readonly #told: number[] = []
  #finds = 0
  #neverUsable = 0
  #isOver = false

  constructor(party: Party) {
    this.#party = party
  }

  async go(seconds: number, churnPercent: number): Promise<void> {
    const tasks = [this.#announce(), this.#lookUp(), this.#churn(churnPercent)]
    await delay(seconds * 1000)
    this.#isOver = true
    await Promise.all(tasks)
  }

  get figures(): Pick<Figures, 'finds' | 'found' | 'findMedianMs' | 'findP95Ms' | 'usableMedianMs' | 'usableMaxMs'> &
    Pick<Figures, 'provideMedianMs' | 'toldMedian' | 'announced' | 'neverUsable'> {
    return {
      finds: this.#finds,
      found: this.#findMs.length,
      findMedianMs: median(this.#findMs),
      findP95Ms: percentile(this.#findMs, 0.95),
      usableMedianMs: median(this.#usableMs),
      usableMaxMs: Math.max(...this.#usableMs),
      provideMedianMs: median(this.#provideMs),
      toldMedian: median(this.#told),
      announced: this.#provideMs.length,
      neverUsable: this.#neverUsable,
    }
  }

  /** New keys, and for each how long until somebody else finds it. */
  async #announce(): Promise<void> {
    while (!this.#isOver) {
      const by = this.#party.any()
      const key = randomBytes(32).toString('hex')
      const beganMs = performance.now()
      const providing = by.ask({ do: 'provide', node: by.node, key }).catch(() => ({}) as { told?: number; tookMs?: number }) // gone meanwhile
      await this.#untilUsable(key, by, beganMs)
      const { told, tookMs } = await providing
      if (told !== undefined && typeof tookMs === 'number') {
        this.#told.push(told)
        this.#provideMs.push(tookMs)
        this.#announced.push({ key, by })
      }
      await delay(PROVIDE_EVERY_MS)
    }
  }

  /** Somebody else looks every so often, without waiting for those before: usable is when the first of them has found it. */
  async #untilUsable(key: string, by: Member, beganMs: number): Promise<void> {
    const running = new Set<Promise<void>>()
    let usableMs: number | null = null
    for (let i = 0; i < USABLE_TRIES && usableMs === null && this.#party.members.includes(by); i++) {
      const asker = this.#party.any(by)
      const look = async (): Promise<void> => {
        const { tookMs } = await asker.ask({ do: 'find', node: asker.node, key, peerId: by.peerId, withinMs: FIND_MS })
        if (typeof tookMs === 'number') usableMs ??= performance.now() - beganMs
      }
      const task: Promise<void> = look()
        .catch(() => {}) // whoever was asked is gone
        .finally(() => running.delete(task))
      running.add(task)
      await delay(USABLE_EVERY_MS)
    }
    while (usableMs === null && running.size > 0) await Promise.race(running)
    if (usableMs !== null) this.#usableMs.push(usableMs)
    else if (this.#party.members.includes(by)) this.#neverUsable++
  }

  /** Keys of seeders that are still there, asked for by others. */
  async #lookUp(): Promise<void> {
    const running = new Set<Promise<void>>()
    while (!this.#isOver) {
      const living = this.#announced.filter(({ by }) => this.#party.members.includes(by))
      const wanted = living[Math.floor(Math.random() * living.length)]
      if (wanted !== undefined) {
        const task: Promise<void> = this.#find(wanted).finally(() => running.delete(task))
        running.add(task)
      }
      await delay(FIND_EVERY_MS)
    }
    await Promise.all(running)
  }

  async #find({ key, by }: Announced): Promise<void> {
    const asker = this.#party.any(by)
    const { tookMs } = await asker
      .ask({ do: 'find', node: asker.node, key, peerId: by.peerId, withinMs: FIND_MS })
      .catch(() => ({ tookMs: undefined }))
    // Whoever went in the middle of it proves nothing.
    if (tookMs === undefined || !this.#party.members.includes(by) || !this.#party.members.includes(asker)) return
    this.#finds++
    if (tookMs !== null) this.#findMs.push(tookMs)
  }

  async #churn(percent: number): Promise<void> {
    if (percent === 0) return
    const everyMs = MINUTE_MS / ((this.#party.members.length * percent) / 100)
    while (!this.#isOver) {
      await delay(everyMs)
      await Promise.all([this.#party.leave(this.#party.any()), this.#party.join()])
    }
  }
}

/** Bytes a second of one node in a process of its own. */
async function idle(party: Party, isClient: boolean): Promise<() => Promise<number>> {
  const member = await party.join({ isClient, isApart: true })
  await delay(SETTLE_MS)
  const { bytes: before = 0 } = await member.ask({ do: 'traffic' })
  const sinceMs = performance.now()
  return async () => {
    const { bytes = 0 } = await member.ask({ do: 'traffic' })
    return ((bytes - before) * 1000) / (performance.now() - sinceMs)
  }
}

function tell(figures: Figures): void {
  const { nodes, churnPercent, seconds, cpuPercent } = figures
  const ms = (value: number): string => `${value.toFixed(0)} ms`
  say(`${nodes} nodes, ${churnPercent} % of them replaced each minute, ${seconds} s; processors busy to ${cpuPercent.toFixed(0)} %\n`)
  say('| what | figure | wanted |')
  say('|---|---|---|')
  say(
    `| look-ups that found the seeder | ${figures.found} of ${figures.finds}, ${((100 * figures.found) / figures.finds).toFixed(1)} % | ≥ 99 % |`,
  )
  say(`| time to the seeder, median | ${ms(figures.findMedianMs)} | < 200 ms |`)
  say(`| time to the seeder, 95 % | ${ms(figures.findP95Ms)} | < 1 s |`)
  say(
    `| found by others after an announcement began, median, longest | ${ms(figures.usableMedianMs)}, ${ms(figures.usableMaxMs)} | < 1 s |`,
  )
  say(`| announcement complete, median; peers told | ${ms(figures.provideMedianMs)}; ${figures.toldMedian} | |`)
  say(`| announcements; never found by others | ${figures.announced}; ${figures.neverUsable} | |`)
  say(`| idle client | ${(figures.clientBytesPerSecond / 1000).toFixed(2)} KB/s | < 5 KB/s |`)
  say(`| idle server | ${(figures.serverBytesPerSecond / 1000).toFixed(2)} KB/s | < 20 KB/s |`)
  say(`| peers in a routing table, median | ${figures.tableMedian} | |`)
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '60' },
      churn: { type: 'string', default: '20' },
      seconds: { type: 'string', default: '180' },
      processes: { type: 'string', default: '3' },
      json: { type: 'boolean', default: false },
    },
  })
  const [nodes, churnPercent, seconds] = [values.nodes, values.churn, values.seconds].map(Number) as [number, number, number] // three of them
  const party = new Party(Number(values.processes))
  try {
    await party.grow(1)
    await party.grow(nodes - 1)
    const [client, server] = await Promise.all([idle(party, true), idle(party, false)])
    const meter = new CpuMeter()
    await meter.start()
    const run = new Run(party)
    await run.go(seconds, churnPercent)
    const [clientBytesPerSecond, serverBytesPerSecond, cpuPercent] = await Promise.all([client(), server(), meter.percent()])
    const rest = { clientBytesPerSecond, serverBytesPerSecond, cpuPercent, tableMedian: median(await party.tables()) }
    const figures: Figures = { nodes, churnPercent, seconds, ...run.figures, ...rest }
    if (values.json) say(JSON.stringify(figures))
    else tell(figures)
  } finally {
    party.end()
  }
}

await main()
