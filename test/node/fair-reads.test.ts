import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { FairReads, type ReadableSocket } from '../../node/network/fair-reads.ts'

/** A socket that says whether it flows, and gives bytes when told. */
class Source extends EventEmitter {
  isFlowing = true

  pause(): this {
    this.isFlowing = false
    return this
  }

  resume(): this {
    this.isFlowing = true
    return this
  }

  give(bytes: number): void {
    this.emit('data', new Uint8Array(bytes))
  }
}

const TURN_BYTES = 100

function watched(count: number): Source[] {
  const reads = new FairReads(TURN_BYTES)
  return Array.from({ length: count }, () => {
    const source = new Source()
    reads.watch(source as unknown as ReadableSocket & Socket) // all that is used of one
    return source
  })
}

describe('what sockets give in one turn of the event loop', () => {
  it('makes them rest when it is more than the measure, until the next turn', async () => {
    const [first, second, third] = watched(3) as [Source, Source, Source]
    first.give(60)
    expect(first.isFlowing).toBe(true)
    second.give(60)
    third.give(1)
    expect([first.isFlowing, second.isFlowing, third.isFlowing]).toEqual([true, false, false])
    await nextTurn()
    expect([second.isFlowing, third.isFlowing]).toEqual([true, true])
  })

  it('is counted anew in each turn', async () => {
    const [only] = watched(1) as [Source]
    for (let turn = 0; turn < 3; turn++) {
      only.give(TURN_BYTES)
      expect(only.isFlowing).toBe(true)
      await nextTurn()
    }
  })

  it('leaves a socket standing that somebody else has paused, whichever came first', async () => {
    const [early, late] = watched(2) as [Source, Source]
    early.pause()
    early.give(TURN_BYTES + 1)
    late.give(1)
    late.pause()
    await nextTurn()
    expect([early.isFlowing, late.isFlowing]).toEqual([false, false])
    early.resume()
    late.resume()
    expect([early.isFlowing, late.isFlowing]).toEqual([true, true])
  })

  it('keeps a resting socket at rest when its reader resumes it in the same turn', async () => {
    const [only] = watched(1) as [Source]
    only.give(TURN_BYTES + 1)
    only.pause()
    only.resume()
    expect(only.isFlowing).toBe(false)
    await nextTurn()
    expect(only.isFlowing).toBe(true)
  })

  it('a socket that closed is not woken', async () => {
    const [only] = watched(1) as [Source]
    only.give(TURN_BYTES + 1)
    only.emit('close')
    await nextTurn()
    expect(only.isFlowing).toBe(false)
  })
})
