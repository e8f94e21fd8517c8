#!/usr/bin/env node
/*
 * The command `shoal`: checks the Node that runs it, then hands over.
 *
 * Plain JavaScript that Node 12 still parses, with no import before the check, so that an old Node gets a sentence and not a stack.
 */
const WANTED = 24
const EXIT_OLD_NODE = 13

async function start() {
  const { existsSync } = await import('node:fs')
  const { fileURLToPath } = await import('node:url')
  const source = new URL('./main.ts', import.meta.url)
  const isRepository = existsSync(fileURLToPath(source))
  await import(isRepository ? source.href : new URL('../dist/cli/main.js', import.meta.url).href)
}

const running = process.versions.node
if (Number(running.split('.')[0]) < WANTED) {
  console.error(
    `Shoal needs Node ${WANTED} or newer; this is Node ${running}. ` +
      `Get a newer one from https://nodejs.org, or run Shoal by \`npx\` from a checkout, which brings its own.`,
  )
  process.exitCode = EXIT_OLD_NODE
} else {
  start().catch((error) => {
    console.error(error)
    process.exitCode = 1
  })
}
