/** A node notices that it listens elsewhere than when it last ran. */
import { createServer } from 'node:net'
import { MemoryDatastore } from 'datastore-core'
import { describe, expect, it } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { createIdentity, createStack } from '../../node/network/stack.ts'

describe('addresses of our own', () => {
  it('keep the port of the last run where it is free; that they are others is told, that they are the same is not', async () => {
    const identity = await createIdentity()
    const datastore = new MemoryDatastore()
    const run = async (port: string): Promise<{ port: string; changes: number }> => {
      const stack = await createStack({
        identity,
        network: 'own-addresses',
        listen: [`/ip4/127.0.0.1/tcp/${port}`],
        bootstrap: [],
        mdns: false,
        datastore,
        log: silentLog,
        groupPrivate: false,
      })
      let changes = 0
      stack.onAddressesChanged(() => changes++)
      const [listening] = stack.addresses()
      const looked = async (): Promise<boolean> => {
        for await (const { value } of datastore.query({ prefix: '/shoal/own-addresses' }))
          return new TextDecoder().decode(value) === listening
        return false
      }
      await expect.poll(looked, { timeout: 10_000 }).toBe(true)
      await stack.stop()
      return { port: /(?<=tcp\/)\d+/.exec(listening!)![0], changes }
    }
    const first = await run('0')
    expect(first.changes).toBe(0)
    expect((await run(first.port)).changes).toBe(0)
    expect((await run('0')).port).toBe(first.port)
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(Number(first.port), '127.0.0.1', resolve))
    const elsewhere = await run('0')
    taken.close()
    expect(elsewhere.port).not.toBe(first.port)
    expect(elsewhere.changes).toBe(1)
  })
})
