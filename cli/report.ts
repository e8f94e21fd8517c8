/**
 * Everything that a command says: results on standard output, all else on standard error.
 *
 * With --json standard output carries exactly one JSON value, the result or {"error":{code,message}}.
 */
import { createInterface } from 'node:readline/promises'
import { type JobError, type JobEvent, withoutKeys } from '../node/control/api.ts'
import { escapeText, jsonText } from './escape.ts'
import { hintFor } from './hints.ts'
import { type Io, writeAll } from './io.ts'
import { Progress } from './progress.ts'

export class Report {
  readonly #io: Io
  readonly #json: boolean
  readonly #progress: Progress
  readonly #warned = new Set<string>()
  #hasAnswered = false

  constructor(io: Io, json: boolean) {
    this.#io = io
    this.#json = json
    this.#progress = new Progress(io)
  }

  /** For the API's onEvent. */
  readonly onEvent = (event: JobEvent): void => {
    if (event.type === 'progress') this.#progress.show(event)
    else this.warn(event.message)
  }

  /** One line on standard error, each text once. */
  warn(message: string): void {
    if (this.#warned.has(message)) return
    this.#warned.add(message)
    this.#line(`warning: ${message}`)
  }

  /** One line on standard error for people; silent with --json. */
  note(text: string): void {
    if (!this.#json) this.#line(text)
  }

  #line(text: string): void {
    this.#progress.clear()
    this.#io.stderr.write(`${escapeText(text)}\n`)
  }

  /** The answer: `value` with --json, else `human`, whose cells from strangers must be escaped already. */
  async answer(value: unknown, human: string): Promise<void> {
    this.#progress.clear()
    this.#hasAnswered = true
    await writeAll(this.#io.stdout, this.#json ? `${jsonText(value)}\n` : human)
  }

  /**
   * An answer that comes piece by piece: a JSON array, or lines. When `items` fails after the first, the array stays open: half an answer
   * must not read as a whole one.
   */
  async answerEach<T>(items: AsyncIterable<T>, human: (item: T) => string): Promise<number> {
    let index = 0
    for await (const item of items) {
      this.#progress.clear()
      this.#hasAnswered = true
      await writeAll(this.#io.stdout, this.#json ? `${index === 0 ? '[' : ',\n'}${jsonText(item)}` : human(item))
      index++
    }
    this.#hasAnswered = true
    if (this.#json) await writeAll(this.#io.stdout, index === 0 ? '[]\n' : ']\n')
    return index
  }

  /** Bytes to standard output as they come. */
  async stream(bytes: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of bytes) await writeAll(this.#io.stdout, chunk)
    this.#progress.clear()
  }

  /** Says what went wrong and what to do next. */
  async fail(error: JobError, verb: string | null): Promise<void> {
    this.#progress.clear()
    const message = withoutKeys(error.message)
    const hint = hintFor(error.code, error.exitCode, verb, message)
    if (this.#json && !this.#hasAnswered) {
      const said = hint === '' ? message : `${message.replace(/[.!?]$/, '')}. ${hint}`
      await this.answer({ error: { code: error.code, message: said } }, '')
    } else {
      this.#line(`shoal: ${message}${hint === '' || /[.!?]$/.test(message) ? '' : '.'}${hint === '' ? '' : ` ${hint}`}`)
    }
  }

  /** Whether a person can be asked: terminal on both sides, and standard input not used up by a link. */
  canAsk(): boolean {
    return !this.#json && this.#io.stdin.isTTY === true && this.#io.stderr.isTTY === true && !this.#io.stdin.readableEnded
  }

  /** Asks for a yes. Anything else, and an aborted `signal`, is a no. */
  async ask(question: string, signal: AbortSignal): Promise<boolean> {
    this.#progress.clear()
    const lines = createInterface({ input: this.#io.stdin, output: this.#io.stderr })
    try {
      // A closed input answers nothing.
      const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('')))
      const answer = await Promise.race([lines.question(`${escapeText(question)} [y/N] `, { signal }).catch(() => ''), closed])
      return /^y(es)?$/i.test(answer.trim())
    } finally {
      lines.close()
    }
  }

  /** Takes the progress line away for good. */
  endProgress(): void {
    this.#progress.end()
  }

  /** Takes the progress line away. */
  end(): void {
    this.#progress.clear()
  }
}
