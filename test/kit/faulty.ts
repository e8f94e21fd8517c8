/** Makes system calls of a running process fail or wait, by attaching strace to it: the disk of one daemon goes wrong and is mended again. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'

/** Whether strace is here and may look at other processes. */
export const canInject = (): boolean =>
  spawnSync('strace', ['-o', '/dev/null', process.execPath, '-e', ''], { stdio: 'ignore' }).status === 0

export interface Injected {
  /** The calls work again from here on. */
  mend(): Promise<void>
}

export interface InjectOptions {
  /** Only calls on these files. */
  paths?: string[]
  /** Calls that are written down beside those that fail. */
  watched?: string
  /** Where the calls are written down. */
  log?: string
  /** Leave the thread of the event loop alone, so that it is as quick as ever: no file is written there. */
  sparesLoop?: boolean
}

/** `calls` as strace writes them (`fsync,fdatasync`), `fault` as `error=EIO` or `delay_enter=2000000`; null only writes calls down. */
export async function inject(pid: number, calls: string, fault: string | null, options: InjectOptions = {}): Promise<Injected> {
  const { paths = [], watched, log = '/dev/null', sparesLoop = false } = options
  const threads = sparesLoop ? readdirSync(`/proc/${pid}/task`).filter((thread) => thread !== String(pid)) : [String(pid)]
  const argv = [...(sparesLoop ? [] : ['-f']), '-y', '-o', log, '-e', `trace=${calls}${watched === undefined ? '' : `,${watched}`}`]
  if (fault !== null) argv.push('-e', `inject=${calls}:${fault}`)
  argv.push('-e', 'signal=none', ...paths.flatMap((path) => ['-P', path]), ...threads.flatMap((thread) => ['-p', thread]))
  const strace = spawn('strace', argv, { stdio: ['ignore', 'ignore', 'pipe'] })
  let says = ''
  const attached = new Promise<void>((resolve, reject) => {
    strace.stderr.on('data', (chunk: Buffer) => {
      says += chunk.toString()
      if (says.split('attached').length > threads.length) resolve()
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
