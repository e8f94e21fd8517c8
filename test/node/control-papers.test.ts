/** The paper of the local API against the table of routes. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, it } from 'vitest'
import { HTTP_VERBS, ROUTES } from '../../node/control/routes.ts'

const paper = readFileSync(resolve(import.meta.dirname, '../../node/control/README.md'), 'utf8')

it('the paper of the local API lists every route, its kind, and whether it is offered over HTTP', () => {
  const rows = [...paper.matchAll(/^\| `(\w+)` \| (\w+) \| (yes|no) \|/gm)].map(([, verb, kind, http]) => ({ verb, kind, http }))
  const table = Object.entries(ROUTES).map(([verb, { kind }]) => ({
    verb,
    kind,
    http: [...HTTP_VERBS].some((name) => name === verb) ? 'yes' : 'no',
  }))
  const byVerb = (a: { verb?: string | undefined }, b: { verb?: string | undefined }): number =>
    String(a.verb).localeCompare(String(b.verb))
  expect(rows.sort(byVerb)).toEqual(table.sort(byVerb))
})
