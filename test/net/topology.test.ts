import { describe, expect, it } from 'vitest'
import { parseTopology } from './topology.ts'

describe('the table of a network', () => {
  it('is read with its comments, defaults and lines', () => {
    const table = `
      # name  on        address      nat   line
      relay   internet  5.9.0.2
      home    internet  91.7.0.2     cone  20ms-50mbit-0.5%
      laptop  home      192.168.1.2        # by cable
    `
    expect(parseTopology(table)).toEqual([
      { name: 'relay', on: 'internet', address: '5.9.0.2', nat: null, line: null },
      { name: 'home', on: 'internet', address: '91.7.0.2', nat: 'cone', line: { delayMs: 20, mbitPerSecond: 50, lossPercent: 0.5 } },
      { name: 'laptop', on: 'home', address: '192.168.1.2', nat: null, line: null },
    ])
  })

  it.each([
    ['a internet', 'a machine without an address'],
    ['a internet 5.9.0.2 open', 'an unknown kind of router'],
    ['a internet 5.9.0.2 - fast', 'a line that is no line'],
    ['a internet 5.9.0.2 - 20ms more', 'a cell too many'],
    ['a internet 5.9.0.1', 'the address of the next hop'],
    ['a internet 5.9.300.2', 'a number that is none'],
    ['a internet 192.168.1.2', 'a private address on the internet'],
    ['internet internet 5.9.0.2', 'the name of the internet'],
    ['a home 192.168.1.2', 'a home that is not there'],
    ['a internet 5.9.0.2\nb a 192.168.1.2', 'a home behind no router'],
    ['a internet 5.9.0.2\na internet 6.9.0.2', 'a name twice'],
    ['a internet 5.9.0.2\nb internet 5.9.0.3', 'two lines into one network'],
    ['r internet 5.9.0.2 cone\na r 5.9.1.2', 'a public address in a home'],
    ['r internet 5.9.0.2 cone\na r 192.168.1.2\nb r 192.168.2.2', 'a home of two networks'],
    ['r internet 5.9.0.2 cone\na r 192.168.1.2\nb r 192.168.1.2', 'an address twice'],
    ['r internet 5.9.0.2 cone\na r 192.168.1.2 - 5ms', 'a long line in a home'],
    ['r internet 5.9.0.2 cone\ns r 192.168.1.2 cone', 'a router behind a router'],
  ])('refuses %j: %s', (table) => {
    expect(() => parseTopology(table)).toThrow()
  })
})
