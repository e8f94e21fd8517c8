/**
 * The fluid model of a crowd that comes and goes (after Qiu and Srikant, 2004, with an origin): the yardstick for an hour.
 *
 * x peers load and y serve what they have. Every uplink is always full, so each of the x gets min(down, (origin + up (x + y)) / x). As all
 * get the same, a peer is done when as much has flowed to each since it came as the share is large; between two events the rate stands
 * still, so the integral is exact. The arrivals are those of the crowd, and the same peers stay for a while.
 */

export interface FluidVisitor {
  arrivalMs: number
  /** How long it serves after it is done. */
  stayMs: number
}

/** Rates in blocks a millisecond. */
export interface FluidLines {
  originUp: number
  up: number
  down: number
}

/** Milliseconds from arrival to done, for each visitor; these must come in the order of arrival. */
export function fluidTimes(visitors: readonly FluidVisitor[], blocks: number, { originUp, up, down }: FluidLines): number[] {
  const times: number[] = []
  const startFlow: number[] = []
  const departures: number[] = [] // a heap of one: stays are equal or nothing, so they leave in the order they finish
  let [now, flow, arrived, done, gone] = [0, 0, 0, 0, 0]
  while (done < visitors.length) {
    const loading = arrived - done
    const rate = loading === 0 ? 0 : Math.min(down, (originUp + up * (loading + departures.length - gone)) / loading)
    const arrivalMs = visitors[arrived]?.arrivalMs ?? Number.POSITIVE_INFINITY
    const doneMs = loading === 0 ? Number.POSITIVE_INFINITY : now + Math.max(0, startFlow[done]! + blocks - flow) / rate
    const leaveMs = departures[gone] ?? Number.POSITIVE_INFINITY
    const nextMs = Math.min(arrivalMs, doneMs, leaveMs)
    flow += rate * (nextMs - now)
    now = nextMs
    if (nextMs === doneMs) {
      const { arrivalMs: cameMs, stayMs } = visitors[done]!
      times.push(now - cameMs)
      if (stayMs > 0) departures.push(now + stayMs)
      flow = Math.max(flow, startFlow[done]! + blocks)
      done++
    } else if (nextMs === leaveMs) gone++
    else {
      startFlow.push(flow)
      arrived++
    }
  }
  return times
}
