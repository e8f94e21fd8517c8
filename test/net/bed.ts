/**
 * Builds the network of a table out of namespaces: an internet in the middle, routers with NAT, homes behind them, and lines with delay,
 * rate and loss. Nothing leaves the machine: see closed.ts, which is asked before anything may start. Needs root on Linux, and iptables;
 * lines need a C compiler.
 */
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { assertClosed } from './closed.ts'
import { INTERNET, type Machine, networkOf, parseTopology } from './topology.ts'

const run = promisify(execFile)
const ip = (...args: string[]): Promise<unknown> => run('ip', args)

const LINKEM = fileURLToPath(new URL('../../bench/linkem.c', import.meta.url))
const LOSS_SEED = '1'
/** In every namespace where packets are passed on. */
const FORWARDING = ['net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0']
/** What the internet does not carry: an answer at once, as from a provider's router, and not silence. */
const NOT_ROUTED = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10']

/** Why no test bed can be built here, in words; null when one can. */
export async function whyNoBed(): Promise<string | null> {
  if (process.platform !== 'linux') return 'network namespaces are of Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  for (const [program, ...args] of [
    ['ip', '-V'],
    ['iptables', '-V'],
    ['cc', '--version'],
  ] as const) {
    const isThere = await run(program, args).then(
      () => true,
      () => false,
    )
    if (!isThere) return `there is no ${program}`
  }
  return null
}

/** A machine of the bed, and what is plugged into it. */
interface Plugged extends Machine {
  namespace: string
  /** Its own end, and the other one: in the internet, or a port of the home's bridge. */
  device: string
  above: string
  /** Of a router: the bridge that its home is plugged into. */
  bridge: string
}

export class Bed {
  readonly #tag = randomBytes(3).toString('hex')
  readonly #machines = new Map<string, Plugged>()
  readonly #devices = new Set<string>()
  readonly #undo: (() => Promise<void>)[] = []
  readonly #folder: string

  private constructor(machines: Machine[], folder: string) {
    this.#folder = folder
    for (const [i, machine] of machines.entries()) {
      const device = (end: string): string => {
        const name = `${end}${i}-${this.#tag}`
        this.#devices.add(name)
        return name
      }
      const namespace = this.#namespaceOf(machine.name)
      this.#machines.set(machine.name, { ...machine, namespace, device: device('d'), above: device('u'), bridge: device('b') })
    }
  }

  /** Builds it; `folder` takes what has to be compiled. Throws, and leaves nothing behind, when it cannot, or when anything could leave it. */
  static async build(table: string, folder: string): Promise<Bed> {
    const why = await whyNoBed()
    if (why !== null) throw new Error(`no test bed: ${why}`)
    const bed = new Bed(parseTopology(table), folder)
    try {
      await bed.#build()
      await bed.assertClosed()
      return bed
    } catch (error) {
      await bed.close()
      throw error
    }
  }

  /** Throws when a packet could leave the machine. */
  assertClosed(): Promise<void> {
    const namespaces = [this.internet, ...[...this.#machines.values()].map(({ namespace }) => namespace)]
    return assertClosed(namespaces, this.internet, this.#devices)
  }

  get internet(): string {
    return this.#namespaceOf(INTERNET)
  }

  /** Where a machine is now. */
  addressOf(name: string): string {
    return this.#machine(name).address
  }

  /** The device by which a machine is plugged in. */
  deviceOf(name: string): string {
    return this.#machine(name).device
  }

  /** Puts a command into a machine. */
  prefix(name: string): string[] {
    return ['ip', 'netns', 'exec', this.#machine(name).namespace]
  }

  /** Pulls the plug of a machine: nothing is told to either end but that the cable is out. */
  async cut(name: string): Promise<void> {
    const { on, above } = this.#machine(name)
    await ip('-n', this.#namespaceOf(on), 'link', 'set', above, 'down')
  }

  /** Plugs it in again. */
  async mend(name: string): Promise<void> {
    const { on, above } = this.#machine(name)
    await ip('-n', this.#namespaceOf(on), 'link', 'set', above, 'up')
  }

  /** Gives a machine on the internet another address, as a provider does at night: what goes on over the old one is lost. */
  async move(name: string, address: string): Promise<void> {
    const machine = this.#machine(name)
    if (machine.on !== INTERNET) throw new Error(`${name} is not on the internet`)
    const { namespace, device, above } = machine
    await ip('-n', this.internet, 'addr', 'flush', 'dev', above)
    await ip('-n', namespace, 'addr', 'flush', 'dev', device)
    machine.address = address
    await this.#addressAbove(machine)
    await this.#addressBelow(machine)
    if (machine.nat === null) return
    await this.#inside(machine.name, 'iptables', '-t', 'nat', '-F')
    await this.#inside(machine.name, 'conntrack', '-F').catch(() => {}) // without the tool old connections end by themselves
    await this.#translate(machine)
  }

  /** The router passes a port of its own on to a machine behind it, as a user sets it. */
  async forward(name: string, port: number): Promise<void> {
    const { on, address } = this.#machine(name)
    const router = this.#machine(on)
    const match = ['-i', router.device, '-p', 'tcp', '--dport', String(port)]
    await this.#inside(on, 'iptables', '-t', 'nat', '-A', 'PREROUTING', ...match, '-j', 'DNAT', '--to-destination', `${address}:${port}`)
    await this.#inside(on, 'iptables', '-I', 'FORWARD', ...match, '-j', 'ACCEPT')
  }

  async close(): Promise<void> {
    for (const step of this.#undo.splice(0).reverse()) await step().catch(() => {}) // goes on with what is left
  }

  #machine(name: string): Plugged {
    const machine = this.#machines.get(name)
    if (machine === undefined) throw new Error(`there is no machine ${name}`)
    return machine
  }

  #namespaceOf(name: string): string {
    return `shoal-${this.#tag}-${name}`
  }

  async #inside(name: string, ...command: string[]): Promise<void> {
    await run('ip', ['netns', 'exec', this.#namespaceOf(name), ...command])
  }

  async #build(): Promise<void> {
    const machines = [...this.#machines.values()]
    for (const namespace of [this.internet, ...machines.map((machine) => machine.namespace)]) {
      await ip('netns', 'add', namespace)
      this.#undo.push(async () => void (await ip('netns', 'del', namespace)))
      await ip('-n', namespace, 'link', 'set', 'lo', 'up')
    }
    for (const setting of FORWARDING) await this.#inside(INTERNET, 'sysctl', '-qw', setting)
    for (const range of NOT_ROUTED) await ip('-n', this.internet, 'route', 'add', 'unreachable', range)
    const linkem = machines.some(({ line }) => line !== null) ? await this.#compile() : ''
    for (const machine of machines) {
      if (machine.line === null) await this.#cable(machine)
      else await this.#line(machine, linkem)
      await this.#plugAbove(machine)
      await this.#addressBelow(machine)
      if (machine.nat !== null) await this.#route(machine)
    }
  }

  async #compile(): Promise<string> {
    const program = join(this.#folder, 'linkem')
    await run('cc', ['-O2', '-o', program, LINKEM])
    return program
  }

  async #cable({ namespace, device, above, on }: Plugged): Promise<void> {
    await ip('link', 'add', device, 'netns', namespace, 'type', 'veth', 'peer', 'name', above, 'netns', this.#namespaceOf(on))
  }

  async #line({ namespace, device, above, on, line }: Plugged, linkem: string): Promise<void> {
    if (line === null) return
    const numbers = [line.delayMs, 0, line.lossPercent * 10_000, line.mbitPerSecond].map(String)
    const child = spawn(linkem, [namespace, device, this.#namespaceOf(on), above, ...numbers, LOSS_SEED], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = once(child, 'exit')
    this.#undo.push(async () => {
      child.kill('SIGKILL')
      await ended
    })
    const outcome = await Promise.race([once(child.stdout, 'data').then(() => null), ended])
    if (outcome !== null) throw new Error(`linkem ended with ${String(outcome[0])}`)
  }

  /** The other end: an address of the internet, or a port of the home's bridge. */
  async #plugAbove(machine: Plugged): Promise<void> {
    if (machine.on === INTERNET) return await this.#addressAbove(machine)
    const above = this.#namespaceOf(machine.on)
    await ip('-n', above, 'link', 'set', machine.above, 'master', this.#machine(machine.on).bridge)
    await ip('-n', above, 'link', 'set', machine.above, 'up')
    const { bridge } = this.#machine(machine.on)
    // The first machine says what network its home is.
    await ip('-n', above, 'addr', 'replace', `${networkOf(machine.address)}.1/24`, 'dev', bridge)
    const isFirst = [...this.#machines.values()].find(({ on }) => on === machine.on) === machine
    if (isFirst) await this.#openTo(machine)
  }

  async #addressAbove({ address, above }: Plugged): Promise<void> {
    await ip('-n', this.internet, 'addr', 'replace', `${networkOf(address)}.1/24`, 'dev', above)
    await ip('-n', this.internet, 'link', 'set', above, 'up')
  }

  async #addressBelow({ namespace, device, address }: Plugged): Promise<void> {
    await ip('-n', namespace, 'addr', 'replace', `${address}/24`, 'dev', device)
    await ip('-n', namespace, 'link', 'set', device, 'up')
    await ip('-n', namespace, 'route', 'replace', 'default', 'via', `${networkOf(address)}.1`, 'dev', device)
  }

  /** Makes a router of a machine. */
  async #route(machine: Plugged): Promise<void> {
    for (const setting of FORWARDING) await this.#inside(machine.name, 'sysctl', '-qw', setting)
    await ip('-n', machine.namespace, 'link', 'add', machine.bridge, 'type', 'bridge')
    await ip('-n', machine.namespace, 'link', 'set', machine.bridge, 'up')
    await this.#inside(machine.name, 'iptables', '-P', 'FORWARD', 'DROP')
    await this.#inside(machine.name, 'iptables', '-A', 'FORWARD', '-i', machine.bridge, '-j', 'ACCEPT')
    await this.#inside(machine.name, 'iptables', '-A', 'FORWARD', '-m', 'conntrack', '--ctstate', 'ESTABLISHED,RELATED', '-j', 'ACCEPT')
    await this.#translate(machine)
  }

  async #translate({ name, nat, device, address }: Plugged): Promise<void> {
    const how = nat === 'symmetric' ? ['MASQUERADE', '--random-fully'] : ['SNAT', '--to-source', address]
    await this.#inside(name, 'iptables', '-t', 'nat', '-A', 'POSTROUTING', '-o', device, '-j', ...how)
    const first = [...this.#machines.values()].find(({ on }) => on === name)
    if (first !== undefined) await this.#openTo(first)
  }

  /** Behind a full cone everything that comes goes to one machine. */
  async #openTo({ on, address }: Plugged): Promise<void> {
    const router = this.#machine(on)
    if (router.nat !== 'full') return
    const { device } = router
    await this.#inside(
      on,
      'iptables',
      '-t',
      'nat',
      '-A',
      'PREROUTING',
      '-i',
      device,
      '-p',
      'tcp',
      '-j',
      'DNAT',
      '--to-destination',
      address,
    )
    await this.#inside(on, 'iptables', '-I', 'FORWARD', '-i', device, '-d', address, '-j', 'ACCEPT')
  }
}
