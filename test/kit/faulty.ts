/** Makes system calls of a running process fail or wait, by attaching strace to it: the disk of one daemon goes wrong and is mended again. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'

/** Whether strace is here and may look at other processes. */
export const canInject = (): boolean =>
  spawnSync('strace', ['-o', '/dev/null', process.execPath, '-e', ''], { stdio: 'ignore' }).status === 0

export interface Injected {
  /** The calls work again from here on. */
  mend(): Promise<void>
}

/** `calls` as strace writes them (`fsync,fdatasync`), `fault` as `error=EIO` or `delay_enter=2000000`. */
export async function inject(pid: number, calls: string, fault: string): Promise<Injected> {
  const argv = ['-f', '-o', '/dev/null', '-e', `trace=${calls}`, '-e', `inject=${calls}:${fault}`, '-p', String(pid)]
  const strace = spawn('strace', argv, { stdio: ['ignore', 'ignore', 'pipe'] })
  let says = ''
  const attached = new Promise<void>((resolve, reject) => {
    strace.stderr.on('data', (chunk: Buffer) => {
      says += chunk.toString()
      if (says.includes('attached')) resolve()
    })
    strace.once('exit', () => reject(new Error(`strace ended: ${says}`)))
  })
  await attached
  return {
    mend: async () => {
      if (strace.exitCode !== null || strace.signalCode !== null) return
      const gone = once(strace, 'exit')
      strace.kill('SIGINT') // lets go of the process and ends
      await gone
    },
  }
}
