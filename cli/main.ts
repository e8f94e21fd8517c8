/** The process of the command line: gives runCli the real streams and signals, and exits with what it says. */
import { runCli } from './app.ts'

process.exitCode = await runCli(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  cwd: process.cwd(),
  onInterrupt(handler) {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, handler)
  },
  onReload(handler) {
    // With a terminal the signal says that it was closed, which ends a command as ever.
    if (process.stdin.isTTY || process.stderr.isTTY) return
    process.removeAllListeners('SIGHUP')
    process.on('SIGHUP', handler)
  },
  exitNow: (code) => process.exit(code),
  openLocal: async (config, options) => {
    // Loaded only where no daemon runs: it brings the whole node with it.
    const { openLocalNode } = await import('./local-node.ts')
    return await openLocalNode(config, options)
  },
  importHome: async (home, bundle) => {
    const { importHome } = await import('./local-node.ts')
    return await importHome(home, bundle)
  },
})
// Written text goes out first; then whatever a part forgot to close must not keep the process.
process.stdout.write('', () => process.stderr.write('', () => process.exit()))
