/**
 * Asks the DHTs of a network who has a share, as a node does, and prints the peer ids as a JSON array: `find.ts NETWORK BOOTSTRAP CID`.
 * Looks again for half a minute while nobody is found.
 */
import { MemoryDatastore } from 'datastore-core'
import { silentLog } from '../../node/log.ts'
import { createIdentity, createStack } from '../../node/network/stack.ts'
import { parseCid, rendezvousDigest } from '../../protocol/cid.ts'
import { nodePrimitives } from '../primitives-node.ts'

const LOOK_MS = 30_000
const [network = '', bootstrap = '', cid = ''] = process.argv.slice(2)

const stack = await createStack({
  ...{ identity: await createIdentity(), network, bootstrap: [bootstrap], ipfsDht: true, mdns: false, groupPrivate: false },
  ...{ listen: ['/ip4/0.0.0.0/tcp/4801'], datastore: new MemoryDatastore(), log: silentLog },
})
const deadline = AbortSignal.timeout(LOOK_MS)
const found = new Set<string>()
await stack.connectBootstrap(deadline)
const rendezvous = await rendezvousDigest(nodePrimitives, parseCid(cid))
while (found.size === 0 && !deadline.aborted) {
  for await (const { peerId } of stack.find(rendezvous, deadline)) found.add(peerId)
}
console.log(JSON.stringify([...found]))
await stack.stop()
process.exit(0)
