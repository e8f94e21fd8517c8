/** What a node asks of others, to find out who can reach it. */
import { multiaddr } from '@multiformats/multiaddr'
import { expect, it } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { DialBack, type DialBackParts } from '../../node/network/reach/dial-back.ts'
import { MinuteWindows } from '../../node/network/reach/windows.ts'
import { CHECKING } from '../../protocol/limits.ts'

it('asks for so many checks of one host in a minute, and so many in all', async () => {
  let opened = 0
  const connection = {
    remotePeer: 'somebody',
    newStream: () => {
      opened++
      return Promise.reject(new Error('gone'))
    },
  } as never
  const checks = new DialBack({ log: silentLog, now: () => 0 } as unknown as DialBackParts)
  const ask = (host: string) => checks.check(connection, multiaddr(`/ip4/${host}/tcp/4801`), false, new AbortController().signal)
  for (let i = 0; i < CHECKING.asksPerHostPerMinuteMax + 5; i++) expect(await ask('5.9.0.2')).toBe('refused')
  expect(opened).toBe(CHECKING.asksPerHostPerMinuteMax)
  for (let i = 0; i < CHECKING.asksPerMinuteMax; i++) await ask(`62.4.0.${i}`)
  expect(opened).toBe(CHECKING.asksPerMinuteMax)
})

it('amounts of a minute add up', () => {
  const windows = new MinuteWindows(100, 60)
  expect([windows.take('a', 0, 50), windows.take('a', 0, 11), windows.take('b', 0, 51), windows.take('b', 0, 50)]).toEqual([
    true,
    false,
    false,
    true,
  ])
  expect(windows.take('a', 60_000, 60)).toBe(true)
})
