/**
 * Shoal beside kubo, the IPFS node in Go, on the test bed: `npm run interop`. Needs what the bed needs (root on Linux), and Go to build kubo
 * with the first time; where something is missing it says so and ends well.
 */
import { whyNoBed } from '../net/bed.ts'
import { Stage } from '../net/stage.ts'
import { kuboProgram, whyNoKubo } from './kubo.ts'
import { TABLE, tell } from './stories.ts'

const say = (text: string): void => void process.stdout.write(`${text}\n`)

const why = (await whyNoBed()) ?? (await whyNoKubo())
if (why !== null) {
  say(`Interop is skipped: ${why}.`)
} else {
  try {
    const program = await kuboProgram(say)
    await Stage.play({ table: TABLE, tell: (stage) => tell(stage, program) }, say)
  } catch (error) {
    say(`FAILED: ${error instanceof Error ? error.message : String(error)}`)
    process.exitCode = 1
  }
}
