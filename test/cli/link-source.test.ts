import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { cidOf, type LinkSource, readLink } from '../../cli/link-source.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { CID, KEY, LINK } from './fake-api.ts'
import { makeHome } from './home.ts'

const read = async (source: LinkSource, input = '', cwd = '/'): Promise<string> => {
  const stdin = new PassThrough()
  stdin.end(input)
  return await readLink(source, { stdin, cwd })
}

describe('where a link comes from', () => {
  it('reads one line from standard input or a file', async () => {
    expect(await read({ from: 'stdin' }, `  ${LINK}\r\n\n`)).toBe(LINK)
    const cwd = await makeHome()
    await writeFile(join(cwd, 'link.txt'), `${LINK}\n`)
    expect(await read({ from: 'file', path: 'link.txt' }, '', cwd)).toBe(LINK)
    expect(await read({ from: 'argument', text: LINK })).toBe(LINK)
  })

  it('refuses no link, several, and too much, and quotes none', async () => {
    const cwd = await makeHome()
    await writeFile(join(cwd, 'two.txt'), `${LINK}\n${LINK}\n`)
    const wrong = [
      read({ from: 'stdin' }, ' \n'),
      read({ from: 'stdin' }, 'x'.repeat(FORMAT.linkCharactersMax + 1000)),
      read({ from: 'file', path: 'two.txt' }, '', cwd),
      read({ from: 'file', path: 'absent.txt' }, '', cwd),
      read({ from: 'file', path: '.' }, '', cwd),
      read({ from: 'argument', text: '' }),
    ]
    const codes = await Promise.all(
      wrong.map((promise) =>
        promise.then(
          () => 'read',
          (error: { code: string; message: string }) => `${error.code} ${error.message.includes(KEY)}`,
        ),
      ),
    )
    expect(codes).toEqual(['BAD_INPUT false', 'L3 false', 'BAD_INPUT false', 'BAD_INPUT false', 'BAD_INPUT false', 'BAD_INPUT false'])
  })

  it('finds the content ID in a link of either form, and never the key', () => {
    for (const text of [CID, `shoal:${CID}`, LINK, `https://host.example/get#${CID}.1${KEY}B`, `${LINK},name=a`])
      expect(cidOf(text)).toBe(CID)
    for (const text of ['', 'shoal:', CID.slice(1), `${CID}a`, `x${CID}`, CID.toUpperCase(), `shoal:${CID}?`]) {
      expect(() => cidOf(text)).toThrow(expect.objectContaining({ code: 'L1' }))
    }
  })
})
