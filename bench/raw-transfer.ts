/** Bytes moved by raw-peer.ts between two processes, to hold Shoal's own figures against. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { MIB, usageOf } from './meters.ts'

const RAW_PEER = fileURLToPath(new URL('raw-peer.ts', import.meta.url))

export interface Figure {
  name: string
  mbPerSecond: number
  processes: { name: string; cpuSeconds: number; rssMiB: number }[]
}

async function lineOf(child: ChildProcess): Promise<Record<string, unknown>> {
  if (child.stdout === null) throw new Error('the process has no standard output')
  const lines = createInterface({ input: child.stdout })
  const [line] = (await once(lines, 'line')) as [string] // readline gives one string an event
  lines.close()
  return JSON.parse(line) as Record<string, unknown> // printed by raw-peer.ts
}

/** Sends `blocks` MiB from one process to another. */
export async function rawTransfer(name: string, mode: 'raw' | 'work', from: string, to: string, blocks: number): Promise<Figure> {
  await mkdir(to, { recursive: true })
  const sender = spawn(process.execPath, [RAW_PEER, 'serve', mode, from], { stdio: ['ignore', 'pipe', 'inherit'] })
  const { address } = await lineOf(sender)
  const receiver = spawn(process.execPath, [RAW_PEER, 'fetch', mode, to, String(address), String(blocks)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const text = (async () => {
    let all = ''
    for await (const chunk of receiver.stdout) all += String(chunk)
    return all
  })()
  const [code] = (await once(receiver, 'exit')) as [number] // an exit code
  if (code !== 0) throw new Error(`${name}: the receiver ended with ${code}`)
  const [result, usage] = (await text)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number>) // printed by raw-peer.ts
  const senderUsage = await usageOf(sender.pid ?? 0)
  sender.kill('SIGKILL')
  return {
    name,
    mbPerSecond: (blocks * MIB) / 1e3 / (result?.ms ?? Number.NaN),
    processes: [
      { name: 'sender', ...senderUsage },
      { name: 'receiver', cpuSeconds: usage?.cpuSeconds ?? Number.NaN, rssMiB: usage?.rssMiB ?? Number.NaN },
    ],
  }
}
