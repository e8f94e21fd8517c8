/**
 * Tells the stories of the test bed: whole networks of namespaces on this machine, with NAT, long lines, outages. `npm run net` tells all,
 * `npm run net -- NAME…` some. Needs root on Linux; where that is missing it says so and ends well.
 */
import { whyNoBed } from './bed.ts'
import { lan } from './lan.ts'
import { matrix } from './matrix.ts'
import { relaying } from './relaying.ts'
import { Stage, type Story } from './stage.ts'

const STORIES: readonly Story[] = [lan, matrix, relaying]

const say = (text: string): void => void process.stdout.write(`${text}\n`)

const names = process.argv.slice(2)
const unknown = names.filter((name) => !STORIES.some((story) => story.name === name))
const why = await whyNoBed()
if (unknown.length > 0) {
  say(`no story is called ${unknown.join(', ')}; there are ${STORIES.map(({ name }) => name).join(', ')}`)
  process.exitCode = 2
} else if (why !== null) {
  say(`The test bed is skipped: ${why}.`)
} else {
  for (const story of STORIES.filter(({ name }) => names.length === 0 || names.includes(name))) {
    say(`\n${story.name}: ${story.about}`)
    try {
      await Stage.play(story, (text) => say(`  ${text}`))
    } catch (error) {
      say(`  FAILED: ${error instanceof Error ? error.message : String(error)}`)
      process.exitCode = 1
    }
  }
}
