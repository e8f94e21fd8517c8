/**
 * Tells the stories of the test bed: whole networks of namespaces on this machine, with NAT, long lines, outages. `npm run net` tells all,
 * `npm run net -- NAME…` some; `--long` with what takes many minutes, `--only TEXT` those parts whose name holds it. Needs root on Linux; where that is missing it says so and ends well.
 */
import { parseArgs } from 'node:util'
import { whyNoBed } from './bed.ts'
import { lan } from './lan.ts'
import { matrix } from './matrix.ts'
import { outages } from './outages.ts'
import { relaying } from './relaying.ts'
import { Stage, type Story } from './stage.ts'

const STORIES: readonly Story[] = [lan, matrix, relaying, outages]

const say = (text: string): void => void process.stdout.write(`${text}\n`)

const { values, positionals: names } = parseArgs({
  allowPositionals: true,
  options: { long: { type: 'boolean', default: false }, only: { type: 'string' } },
})
const telling = { isLong: values.long, only: values.only ?? null }
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
      await Stage.play(story, (text) => say(`  ${text}`), telling)
    } catch (error) {
      say(`  FAILED: ${error instanceof Error ? error.message : String(error)}`)
      process.exitCode = 1
    }
  }
}
