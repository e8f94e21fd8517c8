/** F1, F2: a DHT server that answers with masses of fake closer peers costs us neither our event loop nor dials to a third party. */
import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, test } from 'vitest'
import { BUSY_MS_MAX, endAll, patience, startAttacker, startBusyMeter, startSink, startStack } from './kit.ts'

afterEach(endAll)

/** Looks something up through an attacker, as the only DHT server there is. */
async function lookUp(count: number): Promise<{ busyMs: number; connections: number; tookMs: number }> {
  const sink = await startSink('127.7.7.7')
  const attacker = startAttacker({ kind: 'closerBomb', count, sink })
  const ready = await attacker.ready
  const address = ready.type === 'ready' ? ready.address : ''
  const stack = await startStack({ bootstrap: [address] })
  await stack.connectBootstrap(patience())
  await expect.poll(() => stack.dht()[0]!.peers, { timeout: 5_000 }).toBe(1)
  const meter = startBusyMeter()
  const beganMs = performance.now()
  for (let i = 0; i < 3; i++) for await (const _ of stack.find(randomBytes(32), patience()));
  await stack.provide(randomBytes(32), patience())
  await attacker.done
  return { busyMs: meter.stop(), connections: sink.connections(), tookMs: performance.now() - beganMs }
}

describe('F1 a reply with a mass of fake peers', () => {
  for (const count of [20_000, 60_000]) {
    test(`of ${count} does not hold the event loop`, async () => {
      const { busyMs, tookMs } = await lookUp(count)
      expect(busyMs).toBeLessThanOrEqual(BUSY_MS_MAX)
      expect(tookMs).toBeLessThan(15_000)
    })
  }
})

describe('F2 a reply whose peers all claim the address of a victim', () => {
  test('leads to no connection when it is over the limits', async () => {
    const { connections, busyMs } = await lookUp(2_000)
    expect(connections).toBe(0)
    expect(busyMs).toBeLessThanOrEqual(BUSY_MS_MAX)
  })

  for (const count of [20, 40]) {
    test(`leads to at most three connections a minute within them: ${count} peers`, async () => {
      const { connections, busyMs } = await lookUp(count)
      expect(connections).toBeGreaterThan(0)
      expect(connections).toBeLessThanOrEqual(3)
      expect(busyMs).toBeLessThanOrEqual(BUSY_MS_MAX)
    })
  }
})
