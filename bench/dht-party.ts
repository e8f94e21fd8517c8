/** A DHT of many nodes for `npm run bench:dht`: in some processes, each node at an address of its own on loopback, coming and going. */
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { forEachOf } from './meters.ts'

/** What a worker is asked (dht-worker.ts). */
export type Ask =
  | { do: 'start'; node: number; network: string; host: string; bootstrap: string[]; isClient: boolean }
  | { do: 'stop'; node: number }
  | { do: 'provide'; node: number; key: string }
  | { do: 'find'; node: number; key: string; peerId: string; withinMs: number }
  | { do: 'traffic' }
  | { do: 'tables' }

export interface Asked {
  peerId?: string
  address?: string
  told?: number
  tookMs?: number | null
  bytes?: number
  peers?: number[]
}

export type Answer = { id: number; asked: Asked } | { id: number; error: string }

/** A process with some nodes. */
class Worker {
  readonly #child: ChildProcess = fork(new URL('./dht-worker.ts', import.meta.url), { execArgv: [] })
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #next = 0

  constructor() {
    this.#child.on('message', (answer: Answer) => {
      this.#waiting.get(answer.id)?.(answer)
      this.#waiting.delete(answer.id)
    })
  }

  async ask(ask: Ask): Promise<Asked> {
    const id = this.#next++
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve)
      this.#child.send({ id, ask })
    })
    if ('error' in answer) throw new Error(`${ask.do}: ${answer.error}`)
    return answer.asked
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

export interface Member {
  node: number
  peerId: string
  address: string
  ask(ask: Ask): Promise<Asked>
  startedMs: number
}

const STARTS_AT_ONCE = 4
/** Whom a newcomer dials first. */
const ENTRANCES = 3

export class Party {
  readonly network = `bench-${randomBytes(5).toString('hex')}`
  readonly members: Member[] = []
  readonly #workers: Worker[]
  readonly #own: Worker[] = []
  #next = 0

  constructor(processes: number) {
    this.#workers = Array.from({ length: processes }, () => new Worker())
  }

  /** `count` servers more; those that come later know some of those before them. */
  async grow(count: number): Promise<void> {
    const numbers = Array.from({ length: count }, (_, i) => i)
    await forEachOf(numbers, this.members.length === 0 ? 1 : STARTS_AT_ONCE, async () => {
      await this.join()
    })
  }

  /** One newcomer. With a process of its own its traffic can be told apart. */
  async join({ isClient = false, isApart = false } = {}): Promise<Member> {
    const node = this.#next++
    const worker = isApart ? new Worker() : (this.#workers[node % this.#workers.length] as Worker) // there is at least one
    if (isApart) this.#own.push(worker)
    const ask = (what: Ask): Promise<Asked> => worker.ask(what)
    const bootstrap = Array.from({ length: Math.min(ENTRANCES, this.members.length) }, () => this.any().address)
    const host = `127.${10 + (node >> 8)}.${node & 255}.1`
    const { peerId = '', address = '' } = await ask({ do: 'start', node, network: this.network, host, bootstrap, isClient })
    const member: Member = { node, peerId, address, ask, startedMs: performance.now() }
    if (!isApart) this.members.push(member)
    return member
  }

  async leave(member: Member): Promise<void> {
    this.members.splice(this.members.indexOf(member), 1)
    await member.ask({ do: 'stop', node: member.node })
  }

  /** One of those that are there, and not one of `others`. */
  any(...others: Member[]): Member {
    const free = this.members.filter((member) => !others.includes(member))
    const member = free[Math.floor(Math.random() * free.length)]
    if (member === undefined) throw new Error('nobody is left')
    return member
  }

  /** Peers in the routing tables. */
  async tables(): Promise<number[]> {
    const asked = await Promise.all(this.#workers.map((worker) => worker.ask({ do: 'tables' })))
    return asked.flatMap(({ peers = [] }) => peers)
  }

  end(): void {
    for (const worker of [...this.#workers, ...this.#own]) worker.kill()
  }
}
