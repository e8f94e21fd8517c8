/**
 * A progress line on standard error: phase, bar, bytes, rate and time left. Shown only on a terminal.
 *
 * The rate is that of the last ten seconds, so that it says something about now.
 */
import { performance } from 'node:perf_hooks'
import cliProgress from 'cli-progress'
import type { JobEvent, JobPhase } from '../node/control/api.ts'
import { formatBytes, formatSeconds } from './format.ts'
import type { Io } from './io.ts'

const WINDOW_MS = 10_000
const SAMPLES_MAX = 64
const BAR_CHARACTERS = 24

const PHASES: Record<JobPhase, string> = {
  scan: 'Reading names',
  seal: 'Sealing',
  sync: 'Saving',
  find: 'Looking for seeders',
  fetch: 'Fetching',
  write: 'Writing',
  announce: 'Announcing',
  mark: 'Looking at what is needed',
  sweep: 'Clearing up',
  check: 'Checking',
}

export type ProgressEvent = Extract<JobEvent, { type: 'progress' }>

/** Bytes per second over the last ten seconds, for one phase. */
export class RateMeter {
  #samples: { atMs: number; bytes: number }[] = []

  /** Returns the rate after this sample, null while there is too little to tell. */
  add(bytes: number, atMs: number): number | null {
    const last = this.#samples.at(-1)
    // Samples closer than a 64th of the window only replace the newest one.
    if (last && this.#samples.length > 1 && atMs - last.atMs < WINDOW_MS / SAMPLES_MAX) last.bytes = bytes
    else this.#samples.push({ atMs, bytes })
    while (this.#samples.length > 2 && atMs - (this.#samples[0]?.atMs ?? atMs) > WINDOW_MS) this.#samples.shift()
    const first = this.#samples[0]
    if (!first || atMs - first.atMs < 200) return null
    return ((bytes - first.bytes) * 1000) / (atMs - first.atMs)
  }
}

/** The line for one event: "Fetching [=====     ] 52% 1.2 GiB of 2.3 GiB, 24.0 MiB/s, 46 s left, 5 peers". */
export function progressLine(event: ProgressEvent, rate: number | null): string {
  const { doneBytes, totalBytes } = event
  const parts = [totalBytes === null ? formatBytes(doneBytes) : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`]
  if (rate !== null) parts.push(`${formatBytes(Math.max(0, rate))}/s`)
  if (rate !== null && rate > 0 && totalBytes !== null) parts.push(`${formatSeconds(Math.max(0, totalBytes - doneBytes) / rate)} left`)
  if (event.peers !== undefined) parts.push(event.peers === 1 ? '1 peer' : `${event.peers} peers`)
  const name = PHASES[event.phase] ?? 'Working'
  if (totalBytes === null || totalBytes === 0) return event.phase === 'find' ? `${name}…` : `${name} ${parts.join(', ')}`
  const share = Math.min(1, doneBytes / totalBytes)
  const filled = Math.floor(share * BAR_CHARACTERS)
  return `${name} [${'='.repeat(filled)}${' '.repeat(BAR_CHARACTERS - filled)}] ${Math.floor(share * 100)}% ${parts.join(', ')}`
}

/** Draws progress events; does nothing where standard error is no terminal. */
export class Progress {
  readonly #isShown: boolean
  readonly #bar: cliProgress.SingleBar
  #phase: JobPhase | null = null
  #rate = new RateMeter()
  #line = ''
  #isOn = false
  #isOver = false

  constructor(io: Pick<Io, 'stderr'>) {
    this.#isShown = io.stderr.isTTY === true
    this.#bar = new cliProgress.SingleBar({
      stream: io.stderr,
      format: () => this.#line,
      fps: 5,
      clearOnComplete: true,
      hideCursor: true,
      gracefulExit: false,
      emptyOnZero: true,
    })
  }

  show(event: ProgressEvent): void {
    if (!this.#isShown || this.#isOver) return
    if (event.phase !== this.#phase) this.#rate = new RateMeter()
    this.#phase = event.phase
    this.#line = progressLine(event, this.#rate.add(event.doneBytes, performance.now()))
    if (!this.#isOn) this.#bar.start(1, 0)
    this.#isOn = true
  }

  /** Takes the line away, so that other text can be written. */
  clear(): void {
    if (this.#isOn) this.#bar.stop()
    this.#isOn = false
  }

  /** Nothing is drawn any more. */
  end(): void {
    this.clear()
    this.#isOver = true
  }
}
