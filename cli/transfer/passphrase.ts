/** Where a passphrase comes from: a file, or a terminal that does not show it. Never the command line, which others can see. */

import { resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { JobError } from '../../node/control/api.ts'
import type { Io } from '../io.ts'
import { readFileUpTo } from './private-file.ts'

const BYTES_MAX = 4096

/** The first line of a file. */
export async function passphraseFrom(file: string, io: Pick<Io, 'cwd'>): Promise<string> {
  const text = new TextDecoder().decode(await readFileUpTo(resolve(io.cwd, file), BYTES_MAX))
  const [line = ''] = text.split(/\r?\n/)
  if (line === '') throw new JobError('BAD_INPUT', `the first line of ${file} is empty; it should be the passphrase`)
  return line
}

/** Asks at the terminal, twice where `isNew`. Throws JobError USAGE where there is none. */
export async function askPassphrase(io: Io, isNew: boolean, signal: AbortSignal): Promise<string> {
  const { stdin, stderr } = io
  if (stdin.isTTY !== true || stderr.isTTY !== true) {
    throw new JobError(
      'USAGE',
      `there is no terminal to ask for the passphrase: give --passphrase-file FILE${isNew ? ', or --no-passphrase' : ''}`,
    )
  }
  const first = await askOnce(io, 'Passphrase: ', signal)
  if (first === '') throw new JobError('USAGE', 'an empty passphrase protects nothing; --no-passphrase says so openly')
  if (isNew && (await askOnce(io, 'Again: ', signal)) !== first)
    throw new JobError('USAGE', 'the two are not the same; nothing was written')
  return first
}

async function askOnce({ stdin, stderr }: Io, prompt: string, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted()
  const terminal = stdin as Readable & { setRawMode?: (raw: boolean) => void } // a TTY has it
  stderr.write(prompt)
  terminal.setRawMode?.(true)
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let line = ''
  const take = (part: Buffer | string): void => {
    for (const character of part.toString()) {
      if (character === '\r' || character === '\n' || character === '\u0004') resolve(line)
      else if (character === '\u0003') reject(new JobError('INTERRUPTED', 'interrupted'))
      else line = character === '\u007f' || character === '\b' ? [...line].slice(0, -1).join('') : line + character
    }
    if (line.length > BYTES_MAX) reject(new JobError('BAD_INPUT', `a passphrase has at most ${BYTES_MAX} characters`))
  }
  const abort = (): void => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  stdin.on('data', take).resume()
  try {
    return await promise
  } finally {
    signal.removeEventListener('abort', abort)
    stdin.off('data', take).pause()
    terminal.setRawMode?.(false)
    stderr.write('\n')
  }
}
