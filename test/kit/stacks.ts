/** Bare network stacks on loopback, for the tests of one file. */
import { MemoryDatastore } from 'datastore-core'
import { afterEach } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { createIdentity, createStack, type Stack, type StackOptions } from '../../node/network/stack.ts'

/** What starts a stack with these options, and others for one of them; each ends with its test. */
export function startsStacks(usual: Partial<StackOptions> & { network: string }): (options?: Partial<StackOptions>) => Promise<Stack> {
  const started: Stack[] = []
  afterEach(async () => {
    await Promise.all(started.splice(0).map((stack) => stack.stop()))
  })
  return async (options = {}) => {
    const stack = await createStack({
      identity: await createIdentity(),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: [],
      mdns: false,
      datastore: new MemoryDatastore(),
      log: silentLog,
      groupPrivate: false,
      ...usual,
      ...options,
    })
    started.push(stack)
    return stack
  }
}
