/** The one door from the command line to the node itself: `daemon`, `import`, and the other verbs while no daemon runs. */
import { importHome as importNodeHome, openNode } from '../node/main.ts'

export type { ShoalNode } from '../node/main.ts'

export const openLocalNode: typeof openNode = openNode
export const importHome: typeof importNodeHome = importNodeHome
