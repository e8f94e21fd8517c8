/** Files under a passphrase: a file that age's own library wrote, and every way to damage one. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgeError, isAge, openUnder, sealUnder } from '../../cli/transfer/age.ts'

/** Written by age-encryption 0.3.1 (typage) with setScryptWorkFactor(10). */
const KNOWN = {
  passphrase: 'correct horse battery staple',
  plain: 'known to another implementation\n',
  file: 'YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBVckhvM2o3VHByL2pDZExnL2tYMmZ3IDEwCkhqWXFydU1TRG1ReldtZDVtMmRLZ2J3RDBJL0ZwOEdha05xczJPWVpUd0kKLS0tIHk2ZkdwTnVwcWxybnZ6ZHhnTGpGY2Q0OU1BZUo2NVpkUnp2blhybVRTSFEKcQilvljzQgAFWt6gQH7sNmQnkE9aERDNQj9PGqrvNWv6eWwrNpG92T4u9w/1cvgQQzPr6eL9khtlv3UCkWwPxQ==',
}

const WORK = 4
const PIECE = 64 * 1024

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'opened',
    (error: unknown) => (error instanceof AgeError ? error.code : `${error}`),
  )

describe('a file under a passphrase', () => {
  it('is read as another implementation of age wrote it', async () => {
    const file = Buffer.from(KNOWN.file, 'base64')
    expect(isAge(file)).toBe(true)
    expect(Buffer.from(await openUnder(KNOWN.passphrase, file)).toString()).toBe(KNOWN.plain)
    expect(await codeOf(openUnder(`${KNOWN.passphrase} `, file))).toBe('PASSPHRASE')
  })

  it('comes back whole, whatever its length', async () => {
    for (const length of [0, 1, 15, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]) {
      const plain = new Uint8Array(length).map((_, i) => i * 7)
      const file = await sealUnder('söme pässphrase', plain, WORK)
      expect(Buffer.from(await openUnder('söme pässphrase', file)).equals(plain)).toBe(true)
    }
  })

  it('never opens otherwise when a byte of it is changed, or it is cut off or made longer', async () => {
    const file = await sealUnder('p', new TextEncoder().encode('content'), WORK)
    for (let at = 0; at < file.length; at++) {
      const changed = new Uint8Array(file)
      changed[at]! ^= 1
      // Of the work factor a change may ask for much; that costs time and proves nothing.
      if (!/scrypt \S+ 4\n/.test(Buffer.from(changed).toString('latin1'))) continue
      expect(await codeOf(openUnder('p', changed)), `byte ${at}`).toMatch(/^(FORMAT|PASSPHRASE|DAMAGED)$/)
      expect(await codeOf(openUnder('p', file.subarray(0, at))), `cut at ${at}`).toMatch(/^(FORMAT|DAMAGED)$/)
    }
    expect(await codeOf(openUnder('p', Buffer.concat([file, new Uint8Array(1)])))).toBe('DAMAGED')
  })

  it('loses no piece from its end, and lets none change places', async () => {
    const sealedBytes = PIECE + 16
    const file = await sealUnder('p', new Uint8Array(3 * PIECE), WORK)
    const start = file.length - 3 * sealedBytes
    expect(await codeOf(openUnder('p', file.subarray(0, -sealedBytes)))).toBe('DAMAGED')
    const [head, a, b, c] = [
      file.subarray(0, start),
      ...[0, 1, 2].map((i) => file.subarray(start + i * sealedBytes, start + (i + 1) * sealedBytes)),
    ]
    expect(await codeOf(openUnder('p', Buffer.concat([head!, b!, a!, c!])))).toBe('DAMAGED')
  })

  it('asks for no more work than its limit', async () => {
    const file = Buffer.from(await sealUnder('p', new Uint8Array(), WORK)).toString('latin1')
    for (const work of ['21', '99', '0', '04', '-1']) {
      expect(await codeOf(openUnder('p', Buffer.from(file.replace(/ 4\n/, ` ${work}\n`), 'latin1')))).toBe('FORMAT')
    }
  })

  it('is refused as something else when it is, without more than that error', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), async (bytes) => {
        expect(await codeOf(openUnder('p', bytes))).toBe('FORMAT')
      }),
      { numRuns: 200, seed: 4 },
    )
  })
})
