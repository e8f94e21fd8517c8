/**
 * Where a link comes from: the command line, standard input, or a file. The last two keep it out of the process list and the shell's history.
 *
 * Nothing is parsed here but the end of the line: whether it is a link is for the node to say.
 */
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { JobError } from '../node/control/api.ts'
import { FORMAT } from '../protocol/limits.ts'
import type { Io } from './io.ts'

export type LinkSource = { from: 'argument'; text: string } | { from: 'stdin' } | { from: 'file'; path: string }

/** Chooses the source from what the command line gave; JobError USAGE when that is nothing or both. */
export function linkSource(argument: string | undefined, file: string | undefined): LinkSource {
  if (file !== undefined && argument !== undefined) throw new JobError('USAGE', 'give either LINK or --link-file, not both')
  if (file !== undefined) return { from: 'file', path: file }
  if (argument === undefined)
    throw new JobError('USAGE', 'a link is missing: give LINK, "-" to read it from standard input, or --link-file FILE')
  return argument === '-' ? { from: 'stdin' } : { from: 'argument', text: argument }
}

/** Reads the link. Throws JobError BAD_INPUT when there is none, more than one line, or too much. */
export async function readLink(source: LinkSource, io: Pick<Io, 'stdin' | 'cwd'>): Promise<string> {
  if (source.from === 'argument') return oneLine(source.text)
  return oneLine(source.from === 'stdin' ? await readText(io.stdin) : await readFileText(resolve(io.cwd, source.path)))
}

/** The CID of a link or of a bare CID: all that `unseed` needs, so that a key never leaves for it. */
export function cidOf(text: string): string {
  const found = /(?:^|[:#])(baf(?:krei|ybei)[a-z2-7]{52})(?=$|[#.])/.exec(text)
  if (!found?.[1]) throw new JobError('L1', 'this is neither a link nor a content ID')
  return found[1]
}

// Room for a trailing newline and blanks; the node checks the exact limit.
const CHARACTERS_MAX = FORMAT.linkCharactersMax + 256

async function readText(stream: AsyncIterable<unknown>): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of stream) {
    text += typeof chunk === 'string' ? chunk : decoder.decode(chunk as Uint8Array, { stream: true })
    if (text.length > CHARACTERS_MAX) throw new JobError('L3', `a link is at most ${FORMAT.linkCharactersMax} characters`)
  }
  return text
}

async function readFileText(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r')
    return await readText(file.createReadStream({ highWaterMark: CHARACTERS_MAX, autoClose: false }))
  } catch (cause) {
    if (cause instanceof JobError) throw cause
    throw new JobError('BAD_INPUT', 'the file given by --link-file cannot be read', { cause })
  }
}

function oneLine(text: string): string {
  const trimmed = text.trim()
  if (trimmed === '') throw new JobError('BAD_INPUT', 'no link was given')
  if (/[\r\n]/.test(trimmed)) throw new JobError('BAD_INPUT', 'more than one line was given; one link at a time')
  return trimmed
}
