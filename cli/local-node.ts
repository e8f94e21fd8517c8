/** The one door from the command line to the node itself: `daemon`, and the other verbs while no daemon runs. */
import { openNode } from '../node/main.ts'

export type { ShoalNode } from '../node/main.ts'

export const openLocalNode: typeof openNode = openNode
