/** Starts a process of hostile peers and listens to what they report. */
import { type ChildProcess, spawn } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Command, Order, Report } from './orders.ts'

type ReportOf<T extends Report['type']> = Extract<Report, { type: T }>

/** One hostile peer in the process. */
export class HostilePeerHandle {
  readonly reports: Report[] = []
  readonly #number: number
  readonly #process: HostileProcess
  readonly #news = new EventEmitter()

  constructor(process: HostileProcess, number: number) {
    this.#process = process
    this.#number = number
  }

  /** The first report of that type, once it is there. */
  async until<T extends Report['type']>(type: T, timeoutMs = 15_000): Promise<ReportOf<T>> {
    const find = (): ReportOf<T> | undefined => this.all(type)[0]
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const look = (): void => {
      if (find() !== undefined) resolve()
    }
    const timer = setTimeout(() => reject(new Error(`no report "${type}" within ${timeoutMs} ms`)), timeoutMs)
    this.#news.on('report', look)
    try {
      look()
      await promise
    } finally {
      clearTimeout(timer)
      this.#news.off('report', look)
    }
    return find()!
  }

  all<T extends Report['type']>(type: T): ReportOf<T>[] {
    return this.reports.filter((report): report is ReportOf<T> => report.type === type)
  }

  /** Forgets what was reported and dials `target` until it refuses. */
  visit(target: string): void {
    this.reports.length = 0
    this.#process.send({ do: 'visit', number: this.#number, target })
  }

  async revisit(target: string): Promise<{ sessions: number }> {
    this.visit(target)
    return await this.until('refused')
  }

  stop(): void {
    this.#process.send({ do: 'stop', number: this.#number })
  }

  take(report: Report): void {
    this.reports.push(report)
    this.#news.emit('report')
  }
}

export class HostileProcess {
  readonly #child: ChildProcess
  readonly #peers: HostilePeerHandle[] = []

  /** `prefix`: a command that runs it, as ['ip', 'netns', 'exec', NAME]. */
  constructor(prefix: string[] = []) {
    const [command = '', ...args] = [...prefix, process.execPath, fileURLToPath(new URL('./hostile-peer.ts', import.meta.url))]
    this.#child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    // Written by hostile-peer.ts.
    this.#child.on('message', ({ number, report }: { number: number; report: Report }) => this.#peers[number]?.take(report))
  }

  start(order: Order): HostilePeerHandle {
    const number = this.#peers.length
    const peer = new HostilePeerHandle(this, number)
    this.#peers.push(peer)
    this.send({ do: 'start', number, order })
    return peer
  }

  send(command: Command): void {
    this.#child.send(command)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}
