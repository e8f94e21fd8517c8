/** A home folder of its own for a test, removed with it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

export async function makeHome(): Promise<string> {
  // mkdtemp makes it 0700, as a home must be.
  const home = await mkdtemp(join(tmpdir(), 'shoal-test-'))
  onTestFinished(() => rm(home, { recursive: true, force: true }))
  return home
}
