import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import { Uint8ArrayList } from 'uint8arraylist'
import { expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { holdBack, sendTogether } from '../../node/network/transports.ts'

test('what is sent in one turn leaves in one call, whole though the socket is full', async () => {
  const calls: number[][] = []
  const socket = new Writable({
    highWaterMark: 1_000,
    writev: (chunks, done) => {
      calls.push(chunks.map(({ chunk }) => (chunk as Buffer).length))
      done()
    },
  })
  const maConn: { sendData?(data: Uint8ArrayList): { sentBytes: number; canSendMore: boolean } } = {}
  sendTogether(maConn, socket as never)
  const parts = (...lengths: number[]): Uint8ArrayList => new Uint8ArrayList(...lengths.map((length) => new Uint8Array(length)))
  expect(maConn.sendData!(parts(2, 12, 100, 16))).toEqual({ sentBytes: 130, canSendMore: true })
  expect(maConn.sendData!(parts(2, 12, 900, 16))).toEqual({ sentBytes: 930, canSendMore: false })
  expect(calls).toEqual([])
  await new Promise((resolve) => setImmediate(resolve))
  expect(calls).toEqual([[2, 12, 100, 16, 2, 12, 900, 16]])
  maConn.sendData!(parts(3))
  await new Promise((resolve) => setImmediate(resolve))
  expect(calls.flat()).toHaveLength(9)
})

test('a WebSocket whose reader waits reads nothing, and one that is reset is gone', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  const pairOf = async (): Promise<{ here: WebSocket; there: WebSocket }> => {
    const [there, arrival] = [new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`), once(server, 'connection')]
    await once(there, 'open')
    return { here: (await arrival)[0] as WebSocket, there }
  }
  const [held, free] = [await pairOf(), await pairOf()]
  const maConn: { sendPause?(): void; sendResume?(): void; sendReset?(): void } = {}
  holdBack(maConn, held.here)
  let read = 0
  held.here.on('message', () => read++)
  maConn.sendPause!()
  held.there.send(new Uint8Array(1_000))
  for (let i = 0; i < 20; i++) {
    free.there.send(new Uint8Array(1_000))
    await once(free.here, 'message')
  }
  expect(read).toBe(0)
  maConn.sendResume!()
  await expect.poll(() => read).toBe(1)
  maConn.sendReset!()
  expect((await once(held.there, 'close'))[0]).toBe(1006)
  free.there.terminate()
  server.close()
})
