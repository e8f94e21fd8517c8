/** The sweep in a DHT as large as the public one: some twenty seconds of processor time. */
import { expect, it } from 'vitest'
import { checkSweep } from '../../kit/sweep.ts'

it('10,000 shares take less than two dials a second to announce again within 22 h, in a DHT of 10,000 servers', () => {
  const { dialsPerSecond, lookUps } = checkSweep(10_000)
  console.log(`${lookUps} look-ups in 44 h, ${dialsPerSecond.toFixed(2)} dials a second`)
  expect(dialsPerSecond).toBeLessThanOrEqual(2)
})
