/** The pool of crypto workers: the same answers as the protocol gives, and what becomes of tasks when a worker dies or the pool closes. */
import { createHash, randomBytes } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { CryptoPool } from '../../node/crypto/pool.ts'
import { randomScope } from '../../protocol/keys.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { createSealer } from '../../protocol/seal.ts'
import { nodePrimitives } from '../primitives-node.ts'

const pools: CryptoPool[] = []
afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()))
})

function open(workers: number): CryptoPool {
  const pool = new CryptoPool(workers)
  pools.push(pool)
  return pool
}

const bytesOf = (count: number): Uint8Array => new Uint8Array(randomBytes(count))
const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest())

/** A pool of one worker, and a way to crash that worker for real. */
function openFragile(): { pool: CryptoPool; crash: () => void } {
  let first: Worker | undefined
  const onWorker = (worker: Worker): void => {
    first ??= worker
  }
  process.on('worker', onWorker)
  const pool = open(1)
  return {
    pool,
    crash: () => {
      process.off('worker', onWorker)
      first?.postMessage(null) // no message at all: its handler fails before it can answer
    },
  }
}

describe('the crypto pool', () => {
  it('hashes, seals and opens as the protocol does, and gives taken bytes back', async () => {
    const pool = open(2)
    const bytes = bytesOf(1000)
    const copy = bytes.slice()
    const hashed = await pool.hashTaken(bytes)
    expect([hashed.digest, hashed.bytes, bytes.byteLength]).toEqual([sha256(copy), copy, 0])
    const scope = randomScope(bytesOf(32))
    const plaintext = bytesOf(FORMAT.pieceBytes)
    const expected = await createSealer(nodePrimitives, scope).seal('data', plaintext.slice())
    const sealed = await pool.withSealer(scope, (sealer) => sealer.seal('data', plaintext.slice()))
    expect(sealed).toEqual(expected)
    const named = await pool.withSealer(scope, (sealer) => sealer.name('data', plaintext.slice()))
    expect(named).toEqual({ key: expected.key, digest: expected.digest })
    const opened = await pool.openTaken('data', sealed.key, sealed.block)
    expect(Buffer.compare(opened.piece, plaintext)).toBe(0)
    opened.block[5]! ^= 1
    await expect(pool.opener.open('data', sealed.key, opened.block)).rejects.toMatchObject({ name: 'FormatError', code: 'B2' })
    expect(opened.block.byteLength).toBe(FORMAT.blockBytes) // the opener borrows
  })

  it('takes one more thread while what is to be sealed piles up, and lets it go with its last task', async () => {
    const pool = new CryptoPool(1, 2)
    pools.push(pool)
    const scope = randomScope(bytesOf(32))
    const pieces = Array.from({ length: 6 }, () => bytesOf(FORMAT.pieceBytes))
    const local = createSealer(nodePrimitives, scope)
    const expected = await Promise.all(pieces.map(async (piece) => (await local.seal('data', piece.slice())).digest))
    let most = 0
    let hashing: Promise<unknown>[] = []
    const sealed = await pool.withSealer(scope, async (sealer) => {
      const one = await sealer.seal('data', pieces[0]!.slice())
      expect([one.digest, pool.workerCount]).toEqual([expected[0], 1])
      const all = Promise.all(pieces.map((piece) => sealer.seal('data', piece.slice())))
      most = pool.workerCount
      const blocks = await all
      hashing = Array.from({ length: 4 }, () => pool.hashTaken(bytesOf(FORMAT.blockBytes)))
      return blocks
    })
    expect(most).toBe(2)
    expect(sealed.map(({ digest }) => digest)).toEqual(expected)
    expect(pool.workerCount).toBe(1)
    await Promise.all(hashing)
  })

  it('forgets a scope when its job ends', async () => {
    const pool = open(1)
    const kept = await pool.withSealer(randomScope(bytesOf(32)), (sealer) => Promise.resolve(sealer))
    await expect(kept.seal('data', bytesOf(10))).rejects.toThrow('not announced')
  })

  it('does once more what a crashed worker was given, and goes on with a fresh one, which knows the scopes of running jobs', async () => {
    const { pool, crash } = openFragile()
    const scope = randomScope(bytesOf(32))
    const plaintext = bytesOf(100)
    const expected = await createSealer(nodePrimitives, scope).seal('data', plaintext.slice())
    await pool.withSealer(scope, async (sealer) => {
      crash()
      const block = bytesOf(FORMAT.blockBytes)
      const copy = block.slice()
      const [hashed, sealed] = await Promise.all([pool.hashTaken(block), sealer.seal('data', plaintext.slice())])
      expect([block.byteLength, hashed.digest, Buffer.compare(hashed.bytes, copy)]).toEqual([0, sha256(copy), 0])
      expect(sealed).toEqual(expected)
      expect(await sealer.seal('data', plaintext.slice())).toEqual(expected)
    })
    expect((await pool.hashTaken(plaintext)).digest).toHaveLength(32)
  })

  it('fails a task over which a second worker dies too, and no other that a dead worker was given', async () => {
    const POISON = 0x77
    const post = Worker.prototype.postMessage
    const deaths = vi.spyOn(Worker.prototype, 'postMessage').mockImplementation(function (this: Worker, message, transfer) {
      const isPoison = message?.task?.op === 'hash' && message.task.bytes[0] === POISON
      // No message at all in its place: the worker that gets it fails.
      return isPoison ? post.call(this, null) : post.call(this, message, transfer as readonly ArrayBuffer[])
    })
    onTestFinished(() => deaths.mockRestore())
    const pool = open(1)
    const blocks = [1, POISON, 2, POISON, 3].map((first) => new Uint8Array(FORMAT.blockBytes).fill(first))
    const expected = blocks.map((block) => sha256(block))
    const ends = await Promise.allSettled(blocks.map((block) => pool.hashTaken(block)))
    expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'])
    for (const [i, end] of ends.entries()) {
      if (end.status === 'fulfilled') expect(end.value.digest).toEqual(expected[i])
      else expect(end.reason.message).toBe('two crypto workers ended over one task (hash)')
    }
    expect((await pool.hashTaken(new Uint8Array(5))).digest).toEqual(sha256(new Uint8Array(5)))
  })

  it('rejects what is waiting when it is closed, and every task after that', async () => {
    const pool = open(1)
    const waiting = [pool.hashTaken(bytesOf(FORMAT.blockBytes)), pool.hashTaken(bytesOf(FORMAT.blockBytes))]
    const ends = Promise.allSettled(waiting)
    await pool.close()
    expect((await ends).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await expect(pool.hashTaken(bytesOf(1))).rejects.toThrow('closed')
  })
})
