/** NAT-PMP (RFC 6886): the other way to ask a router for a port, two datagrams long. */
import { createSocket } from 'node:dgram'
import { MAPPING } from '../../../protocol/limits.ts'

const PORT = 5351
const OP_ADDRESS = 0
const OP_MAP_TCP = 2
const ANSWER = 128

/**
 * Has a TCP port passed on, and gives the port outside; a lifetime of 0 takes it back. Throws when the router will not, or does not know the
 * protocol.
 */
export async function mapPortByPmp(router: string, port: number, lifetimeSeconds: number, signal: AbortSignal): Promise<number> {
  const request = new DataView(new ArrayBuffer(12))
  request.setUint8(1, OP_MAP_TCP)
  request.setUint16(4, port)
  request.setUint16(6, lifetimeSeconds === 0 ? 0 : port)
  request.setUint32(8, lifetimeSeconds)
  const mapped = await exchange(router, new Uint8Array(request.buffer), 16, signal)
  if (mapped.getUint16(8) !== port) throw new Error('the router speaks of another port')
  return mapped.getUint16(10)
}

/** What the router says is its address outside. Throws when it does not. */
export async function externalHostByPmp(router: string, signal: AbortSignal): Promise<string> {
  const address = await exchange(router, Uint8Array.of(0, OP_ADDRESS), 12, signal)
  return [8, 9, 10, 11].map((at) => address.getUint8(at)).join('.')
}

/** Asks, again while no answer comes, and checks what every answer has. */
async function exchange(router: string, request: Uint8Array, bytes: number, outer: AbortSignal): Promise<DataView> {
  const signal = AbortSignal.any([outer, AbortSignal.timeout(MAPPING.requestMs)])
  const socket = createSocket('udp4')
  const { promise, resolve, reject } = Promise.withResolvers<DataView>()
  signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  socket.on('error', reject)
  socket.on('message', (message, { address }) => {
    if (address !== router || message.byteLength < bytes || message[1] !== request[1]! + ANSWER) return
    const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
    if (view.getUint16(2) === 0) resolve(view)
    else reject(new Error(`the router says ${view.getUint16(2)}`))
  })
  const send = (): void => socket.send(request, PORT, router, () => {}) // what fails is not answered
  const again = setInterval(send, MAPPING.datagramMs)
  try {
    signal.throwIfAborted()
    send()
    return await promise
  } finally {
    clearInterval(again)
    socket.close()
  }
}
