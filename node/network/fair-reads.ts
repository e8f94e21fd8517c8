/**
 * No more is taken from sockets in one turn of the event loop than a set number of bytes, whoever sends.
 *
 * libuv reads up to 32 times from a socket before it looks at the next, and Node hands each read out at once: twenty quick peers fill a
 * turn with 40 MiB, and timers and the local API wait for a second. Here a socket whose bytes are over the measure of the turn rests until
 * the next one. Every socket still gives something in each turn, so nobody starves.
 */
import type { Socket } from 'node:net'

/** What of a socket is needed; a net.Socket has all of it. */
export type ReadableSocket = Pick<Socket, 'on' | 'once' | 'pause' | 'resume'>

/** One for all sockets of a node. */
export class FairReads {
  readonly #turnBytes: number
  readonly #resting = new Set<Rest>()
  #bytes = 0
  #isCounting = false

  constructor(turnBytes: number) {
    this.#turnBytes = turnBytes
  }

  /** To be called once for a socket that somebody else reads by its 'data' events already. */
  watch(socket: ReadableSocket): void {
    const rest = new Rest(socket)
    socket.on('data', (bytes: Uint8Array) => this.#count(rest, bytes.byteLength))
    socket.once('close', () => this.#resting.delete(rest))
  }

  #count(rest: Rest, bytes: number): void {
    this.#bytes += bytes
    if (!this.#isCounting) {
      this.#isCounting = true
      setImmediate(() => this.#endTurn())
    }
    if (this.#bytes <= this.#turnBytes) return
    rest.begin()
    this.#resting.add(rest)
  }

  #endTurn(): void {
    this.#isCounting = false
    this.#bytes = 0
    const resting = [...this.#resting]
    this.#resting.clear()
    for (const rest of resting) rest.end()
  }
}

/** A socket that we pause beside whoever else pauses it: it flows when neither wants it to stand. */
class Rest {
  readonly #pause: () => void
  readonly #resume: () => void
  #isOurs = false
  #isTheirs = false

  constructor(socket: ReadableSocket) {
    const { pause, resume } = socket
    this.#pause = () => void pause.call(socket)
    this.#resume = () => void resume.call(socket)
    socket.pause = () => {
      this.#isTheirs = true
      this.#pause()
      return socket as Socket // `this` of the method that it stands for
    }
    socket.resume = () => {
      this.#isTheirs = false
      if (!this.#isOurs) this.#resume()
      return socket as Socket
    }
  }

  begin(): void {
    if (this.#isOurs) return
    this.#isOurs = true
    if (!this.#isTheirs) this.#pause()
  }

  end(): void {
    this.#isOurs = false
    if (!this.#isTheirs) this.#resume()
  }
}
