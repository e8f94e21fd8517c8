import { expect, test } from 'vitest'
import { LagMeter } from '../../node/lag.ts'

test('a loop that was held up shows in the lag, and no time that it waited by itself does', async () => {
  const meter = new LagMeter()
  await new Promise((resolve) => setTimeout(resolve, 50)) // the first look
  for (const until = performance.now() + 300; performance.now() < until; );
  await expect.poll(() => meter.p99Ms, { timeout: 5_000 }).toBeGreaterThanOrEqual(200)
  expect(meter.p99Ms).toBeLessThan(5_000)
  meter.stop()
})
