import { describe, expect, it } from 'vitest'
import { runFlash } from './flash.ts'

describe('a crowd of fifty', () => {
  it('gets 32 blocks in not much more time than its lines need, the same way with the same seed', () => {
    const [first, again, other] = [runFlash(50, 32, 1), runFlash(50, 32, 1), runFlash(50, 32, 2)]
    expect(first.finished).toBe(50)
    expect(first.lastToBound).toBeGreaterThanOrEqual(1)
    expect(again.digest).toBe(first.digest)
    expect(other.digest).not.toBe(first.digest)
  })
})
