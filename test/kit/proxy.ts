/** A TCP proxy on loopback that records and counts what passes: what somebody on the wire sees. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export class RecordingProxy {
  readonly port: number
  readonly #server: Server
  readonly #sockets: Set<Socket>
  readonly #chunks: Buffer[]

  private constructor(server: Server, sockets: Set<Socket>, chunks: Buffer[]) {
    this.#server = server
    this.#sockets = sockets
    this.#chunks = chunks
    this.port = (server.address() as AddressInfo).port // a TCP server has an AddressInfo
  }

  /** Forwards to `port` on 127.0.0.1. */
  static async to(port: number): Promise<RecordingProxy> {
    const chunks: Buffer[] = []
    const sockets = new Set<Socket>()
    const server = createServer((near) => {
      const far = connect(port, '127.0.0.1')
      for (const [from, into] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from)
        from.on('data', (chunk: Buffer) => chunks.push(chunk))
        from.on('error', () => into.destroy())
        from.pipe(into)
      }
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new RecordingProxy(server, sockets, chunks)
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks)
  }

  get count(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0)
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
  }
}

/** The TCP port of a multiaddr. */
export const portOf = (address: string): number => Number(/\/tcp\/(\d+)/.exec(address)?.[1])
