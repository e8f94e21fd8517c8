/**
 * The daemon's log file: lines go out together and in order, the file and one older one are bounded, and no caller ever waits.
 *
 * A disk that is full or slow must not fill the memory instead: beyond LOGS.pendingBytesMax lines are dropped, and the next one that gets
 * through says how many. Nothing is synced: a log is no promise.
 */
import { constants } from 'node:fs'
import { type FileHandle, open, rename } from 'node:fs/promises'
import { LOGS } from '../protocol/limits.ts'

export class LogFile {
  readonly #path: string
  readonly #fileBytesMax: number
  #pending: string[] = []
  #pendingBytes = 0
  #dropped = 0
  #file: { handle: FileHandle; sizeBytes: number } | null = null
  #writing: Promise<void> | null = null

  /** Lines go to `path` (0600, made at the first line), older ones to `path`.1. */
  constructor(path: string, fileBytesMax: number = LOGS.fileBytesMax) {
    this.#path = path
    this.#fileBytesMax = fileBytesMax
  }

  /** Takes one line with its newline. */
  readonly write = (line: string): void => {
    if (this.#pendingBytes + line.length > LOGS.pendingBytesMax) {
      this.#dropped++
      return
    }
    this.#pending.push(line)
    this.#pendingBytes += line.length
    this.#writing ??= this.#run().finally(() => {
      this.#writing = null
    })
  }

  /** Resolves when all lines are out, or could not be written. */
  async close(): Promise<void> {
    await this.#writing
    if (this.#pending.length > 0) await this.#run()
    await this.#file?.handle.close()
    this.#file = null
  }

  async #run(): Promise<void> {
    while (this.#pending.length > 0) {
      const lines = this.#pending
      this.#pending = []
      this.#pendingBytes = 0
      const dropped = this.#dropped
      this.#dropped = 0
      try {
        if (dropped > 0)
          await this.#append(`${JSON.stringify({ at: new Date().toISOString(), level: 'warn', text: 'lines were dropped', dropped })}\n`)
        await this.#append(lines.join(''))
      } catch {
        // There is nowhere to say so; the next line tries again, and says how many are missing.
        this.#dropped += dropped + lines.length
        await this.#file?.handle.close().catch(() => {})
        this.#file = null
        return
      }
    }
  }

  async #append(text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text)
    if (this.#file !== null && this.#file.sizeBytes > 0 && this.#file.sizeBytes + bytes.length > this.#fileBytesMax) {
      await this.#file.handle.close()
      this.#file = null
      await rename(this.#path, `${this.#path}.1`)
    }
    this.#file ??= await this.#open()
    await this.#file.handle.appendFile(bytes)
    this.#file.sizeBytes += bytes.length
  }

  async #open(): Promise<{ handle: FileHandle; sizeBytes: number }> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | (constants.O_NOFOLLOW ?? 0)
    const handle = await open(this.#path, flags, 0o600)
    return { handle, sizeBytes: (await handle.stat()).size }
  }
}
