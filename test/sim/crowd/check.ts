/** Compares what the machines of a crowd believe with what is so; slow, for tests. */
import { type Member, OVER } from './members.ts'

/** Throws when an invariant of a machine breaks, or a machine's view of what is under way is not that of the wire. */
export function checkCrowd(members: readonly (Member | undefined)[]): void {
  for (const member of members) {
    if (member === undefined) continue
    const { swarm, upload, halves, line, sending } = member
    upload.checkInvariants()
    if (halves.some((half) => half.owner !== member || half.reverse.reverse !== half)) throw new Error(`halves of ${member.key}`)
    const queued = sending === null ? line : [sending, ...line]
    if (queued.some(({ stage, half }) => stage === OVER || half.peer !== member)) throw new Error(`line of ${member.key}`)
    if (sending === null && line.length > 0) throw new Error(`${member.key} waits for nothing`)
    if (swarm === null) continue
    swarm.checkInvariants()
    const wire = halves.flatMap(({ peer, asked }) => asked.map(({ block }) => `${peer.key}/${block}`)).sort()
    const machine = swarm.inFlight()
    if (wire.join() !== machine.join()) throw new Error(`the wire has ${wire.join()}, the machine ${machine.join()}`)
    if (swarm.haveCount !== member.haveCount) throw new Error(`${member.key} has ${member.haveCount}, the machine ${swarm.haveCount}`)
  }
}
