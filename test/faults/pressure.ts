/** Daemons that are pressed hard while they work for others: a thousand dials with few descriptors, and a disk that takes two seconds for a sync. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { inject } from '../kit/faulty.ts'
import { Row } from './table.ts'
import { ACTS, type Act, judgeLag, noteLag, type Scene, tryAct, Victim } from './victim.ts'

const DESCRIPTORS = 256
const DIALS = 1_000
const SYNC_SECONDS = 2
/** It waits for the records, which sync as well: for what is being written and for what comes next. */
const STATUS_MS_MAX = 3 * SYNC_SECONDS * 1_000

/** Share, get and unseed while a thousand sockets are being opened, with a peer that is served all the time. */
export async function floodWithDials(scene: Scene, tell: (row: Row) => void): Promise<void> {
  const prefix = ['sh', '-c', `ulimit -n ${DESCRIPTORS}; exec "$@"`, 'sh']
  const victim = await Victim.start(scene, 'flooded', { prefix, args: ['--up', '2MiB'] })
  for (const act of ACTS) {
    const row = new Row(`${DESCRIPTORS} descriptors, ${DIALS} dials: ${act.name}`)
    await underPressure(row, victim, act, () => flood(row, victim))
    tell(row)
  }
  await victim.stop()
}

/** Share, get and unseed while each sync takes two seconds. */
export async function slowDownSyncs(scene: Scene, tell: (row: Row) => void): Promise<void> {
  const victim = await Victim.start(scene, 'slow')
  for (const act of ACTS) {
    const row = new Row(`a sync takes ${SYNC_SECONDS} s: ${act.name}`, 'not on the loop')
    await underPressure(row, victim, act, async () => {
      const fault = `delay_enter=${SYNC_SECONDS * 1_000_000}`
      const slowed = await inject(victim.pid, 'fsync,fdatasync', fault, { sparesLoop: true })
      return async () => {
        await slowed.mend()
        return true
      }
    })
    if (row.passed === 0) row.fault('it does not wait for the disk')
    tell(row)
  }
  await victim.stop()
}

/** A trial in which a peer is served and `status` answers from before the pressure until after the act. `press` gives the way to end it,
 *  which says whether there was any. */
async function underPressure(row: Row, victim: Victim, act: Act, press: () => Promise<() => Promise<boolean>>): Promise<void> {
  row.at('the only trial')
  const serving = victim.serves()
  const deadline = AbortSignal.timeout(30_000)
  while ((await victim.api.status(deadline)).swarmPeers === 0) await sleep(20, undefined, { signal: deadline })
  let isOver = false
  let slowestMs = 0
  const watching = (async () => {
    while (!isOver) {
      const askedMs = performance.now()
      await noteLag(row, victim)
      slowestMs = Math.max(slowestMs, performance.now() - askedMs)
      await sleep(100)
    }
  })()
  watching.catch((error: unknown) => row.fault(`status does not answer: ${String(error)}`))
  await tryAct(row, victim, act, async () => {
    const release = await press()
    return {
      mend: async () => {
        const unserved = await serving
        if (unserved !== null) row.fault(unserved)
        return await release()
      },
    }
  })
  isOver = true
  await watching.catch(() => {})
  if (slowestMs > STATUS_MS_MAX) row.fault(`status took ${Math.round(slowestMs)} ms, limit ${STATUS_MS_MAX} ms`)
  judgeLag(row)
}

async function flood(row: Row, { daemon }: Victim): Promise<() => Promise<boolean>> {
  const [, host = '', port = ''] = /\/ip4\/([^/]+)\/tcp\/(\d+)/.exec(daemon.addresses[0] ?? '') ?? []
  const sockets: Socket[] = []
  let closed = 0
  for (let i = 0; i < DIALS; i++) {
    // From many addresses, or the limits by neighbourhood would do all the work.
    const socket = connect({ host, port: Number(port), localAddress: `127.0.${i % 250}.${1 + (i >> 2)}` })
    socket.on('error', () => {})
    socket.on('close', () => closed++)
    sockets.push(socket)
  }
  await Promise.all(sockets.slice(0, 50).map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])))
  return async () => {
    for (const socket of sockets) socket.destroy()
    if (sockets.length - closed > 4 * DESCRIPTORS) row.fault(`${sockets.length - closed} of ${DIALS} sockets are held`)
    return true
  }
}
