/** Lists of a few entries whose order counts: taking one out makes no list of what was taken out, as `splice` does. */

/** Takes out what stands at a place, which must be there; what is behind it moves up. */
export function removeAt<T>(list: T[], at: number): T {
  const taken = list[at]! // the caller has looked it up
  for (let next = at + 1; next < list.length; next++) list[next - 1] = list[next]!
  list.pop()
  return taken
}

/** Takes an entry out; nothing when it is not there. */
export function removeFrom<T>(list: T[], entry: T): void {
  const at = list.indexOf(entry)
  if (at >= 0) removeAt(list, at)
}
