import { expect, it } from 'vitest'
import { checkSweep } from '../kit/sweep.ts'

it('10,000 shares are announced again within 22 h as a sweep in key order, with less than two dials a second, in a DHT of 1,000 servers', () => {
  const { dialsPerSecond, lookUps } = checkSweep(1_000)
  expect(dialsPerSecond).toBeLessThanOrEqual(2)
  expect(lookUps).toBeGreaterThan(50)
})
