/** What the doctor makes of the facts: for each one line, how bad it is, and what to do. Pure: facts in, findings out. */
import { BlockList, isIP } from 'node:net'
import { type PeerSummary, type StatusResult, VERSION } from '../../node/control/api.ts'
import { count, formatBytes } from '../format.ts'

export interface Finding {
  name: string
  state: 'ok' | 'warn' | 'fail'
  says: string
  /** What to do; null where nothing is wrong. */
  todo: string | null
}

/** What there is to see of a machine and its node. Null: it cannot be told. */
export interface Facts {
  nodeVersion: string
  platform: string
  home: {
    path: string
    exists: boolean
    /** Others can enter it, or it is not ours. */
    isOpen: boolean
    /** Names of files that others can read. */
    openFiles: string[]
    version: string | null
  }
  /** `keptBytes`: free space that Shoal leaves. */
  disk: { freeBytes: number; keptBytes: number; syncMs: number | null } | null
  /** Milliseconds that the wall clock gained on the monotonic one since this process began. */
  clock: { year: number; gainedMs: number }
  openFilesMax: number | null
  memoryBytes: number
  /** What is wrong with the settings. */
  complaint: string | null
  /** Fixed ports to listen on that somebody else has; empty while our own node runs. */
  takenPorts: string[]
  /** The running node. */
  status: StatusResult | null
  peers: PeerSummary[]
  /** A node of another version runs, and cannot be asked. */
  isOtherVersion: boolean
}

const finding =
  (name: string) =>
  (state: Finding['state'], says: string, todo: string | null = null): Finding => ({ name, state, says, todo })

/** All findings, in the order in which they are told. */
export const examine = (facts: Facts): Finding[] => [
  checkVersions(facts),
  checkNode(facts),
  checkHome(facts),
  checkDisk(facts),
  checkClock(facts),
  checkLimits(facts),
  checkConfig(facts),
  checkPorts(facts),
  ...(facts.status === null ? [] : [checkReach(facts, facts.status), checkDht(facts.status), checkLoad(facts.status)]),
]

const NODE_WANTED = 24

function checkVersions({ nodeVersion, status, isOtherVersion }: Facts): Finding {
  const say = finding('version')
  const says = `Shoal ${VERSION} on Node ${nodeVersion}`
  if (Number(nodeVersion.split('.')[0]) < NODE_WANTED) return say('fail', says, `install Node ${NODE_WANTED} or newer`)
  if (isOtherVersion || (status !== null && status.version !== VERSION)) {
    const other = status === null ? 'of another version' : status.version
    return say('warn', `${says}, but the running node is ${other}`, 'restart it: shoal stop, then shoal daemon')
  }
  return say('ok', says)
}

function checkNode({ status, isOtherVersion }: Facts): Finding {
  const say = finding('node')
  if (isOtherVersion) return say('warn', 'a node of another version runs for this home', 'restart it: shoal stop, then shoal daemon')
  if (status === null) return say('warn', 'no node runs for this home', 'shoal daemon, or shoal service install')
  return say('ok', `process ${status.pid} ${status.stopping ? 'is stopping' : 'runs'}, ${count(status.shares, 'share')}`)
}

function checkHome({ home }: Facts): Finding {
  const say = finding('home')
  if (!home.exists) return say('warn', `${home.path} does not exist yet`, 'the first start makes it')
  if (home.isOpen) return say('fail', `${home.path} is open to other users`, `chmod 700 '${home.path}', and see that it is yours`)
  if (home.openFiles.length > 0) {
    const files = home.openFiles.map((name) => `'${home.path}/${name}'`).join(' ')
    return say('fail', `other users can read ${home.openFiles.join(', ')} in ${home.path}`, `chmod 600 ${files}`)
  }
  return say('ok', `${home.path}, for you alone${home.version === null ? '' : `, of version ${home.version}`}`)
}

const FREE_FEW = 1024 ** 3
const SYNC_SLOW_MS = 200

function checkDisk({ disk }: Facts): Finding {
  const say = finding('disk')
  if (disk === null) return say('warn', 'the file system of the home does not tell its free space', null)
  const { freeBytes, keptBytes, syncMs } = disk
  const says = `${formatBytes(freeBytes)} free${syncMs === null ? '' : `, one sync takes ${syncMs.toFixed(1)} ms`}`
  if (freeBytes <= keptBytes) {
    return say('fail', `${says}, and ${formatBytes(keptBytes)} are left alone`, 'free some space, or set a smaller freeBytesKept')
  }
  if (freeBytes - keptBytes < FREE_FEW) return say('warn', says, 'free some space, or let go of shares with shoal unseed')
  if (syncMs !== null && syncMs > SYNC_SLOW_MS) {
    return say('warn', says, 'the disk is slow or busy: sharing and fetching wait for it; another disk for --home helps')
  }
  return say('ok', says)
}

const YEARS = [2025, 2100] as const
const GAIN_MS = 500

function checkClock({ clock }: Facts): Finding {
  const say = finding('clock')
  if (clock.year < YEARS[0] || clock.year > YEARS[1])
    return say('fail', `the clock says ${clock.year}`, 'set it; announcements carry times')
  if (Math.abs(clock.gainedMs) > GAIN_MS) {
    return say(
      'warn',
      `the clock moved by ${Math.round(clock.gainedMs)} ms while this ran`,
      'see what sets the time: it should slew, not step',
    )
  }
  return say('ok', 'the clock runs steadily')
}

const FILES_FEW = 1024
const MEMORY_FEW = 512 * 1024 ** 2

function checkLimits({ openFilesMax, memoryBytes }: Facts): Finding {
  const say = finding('limits')
  const says = `${openFilesMax ?? 'unknown many'} open files, ${formatBytes(memoryBytes)} of memory`
  if (openFilesMax !== null && openFilesMax < FILES_FEW)
    return say('warn', says, 'few files mean few connections: ulimit -n 8192 before the start')
  if (memoryBytes < MEMORY_FEW) return say('warn', says, 'a node that fetches wants some 300 MiB for itself')
  return say('ok', says)
}

function checkConfig({ complaint }: Facts): Finding {
  const say = finding('settings')
  return complaint === null
    ? say('ok', 'all settings make sense')
    : say('fail', complaint, 'mend config.json in the home; README.md lists the settings')
}

function checkPorts({ takenPorts, status, isOtherVersion }: Facts): Finding {
  const say = finding('ports')
  if (isOtherVersion) return say('ok', 'those of the running node, which cannot be asked')
  if (takenPorts.length > 0)
    return say('fail', `another program has ${takenPorts.join(', ')}`, 'end it, or choose another port with --listen or --http')
  return say(
    'ok',
    status === null ? 'the ports to listen on are free' : `listening on ${count(status.addresses.length, 'address', 'addresses')}`,
  )
}

/** A guess: an address that the world can dial, or a stranger who did. */
function checkReach({ peers }: Facts, status: StatusResult): Finding {
  const say = finding('reach')
  const kind = status.reach?.kind
  if (kind === 'relayed') return say('ok', 'others reach this node through a relay: its router lets nobody in')
  const open = status.addresses.filter(isPublic)
  if (open.length > 0) return say('ok', `the world can dial ${open.length === 1 ? 'an address' : `${open.length} addresses`} of this node`)
  if (peers.some(({ direction, address }) => direction === 'inbound' && isPublic(address)))
    return say('ok', 'peers from outside reach this node')
  if (status.network !== null) return say('ok', `on the network "${status.network}" with private addresses`)
  return say(
    'warn',
    'nobody from outside has reached this node: it is probably behind NAT',
    'forward a port to this computer and listen on it: --listen /ip4/0.0.0.0/tcp/4801',
  )
}

function checkDht(status: StatusResult): Finding {
  const say = finding('peers')
  const known = status.dht.reduce((sum, { peers }) => sum + peers, 0)
  const says = `${count(status.connections, 'connection')}, ${count(known, 'peer')} in the DHT tables`
  if (known + status.connections > 0) return say('ok', says)
  return say(
    'warn',
    says,
    status.network === null
      ? 'is there a way to the internet? --bootstrap names a peer to begin with'
      : 'give a peer of that network with --bootstrap',
  )
}

const LAG_MS = 100

function checkLoad({ lagP99Ms, rssBytes, jobs }: StatusResult): Finding {
  const say = finding('load')
  const says = `${count(jobs, 'job')}, ${formatBytes(rssBytes)} of memory, ${lagP99Ms} ms late at most (99 of 100)`
  return lagP99Ms > LAG_MS
    ? say('warn', says, 'the computer is busy, or the disk slow; shoal limits lowers what the node does')
    : say('ok', says)
}

const PRIVATE = new BlockList()
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
] as const) {
  PRIVATE.addSubnet(network, bits, 'ipv4')
}
for (const [network, bits] of [
  ['::', 127],
  ['fc00::', 7],
  ['fe80::', 10],
] as const) {
  PRIVATE.addSubnet(network, bits, 'ipv6')
}

/** Whether a multiaddr is one that the internet routes. */
export function isPublic(address: string): boolean {
  const [, , host = ''] = address.split('/')
  const family = isIP(host)
  return family !== 0 && !PRIVATE.check(host, family === 4 ? 'ipv4' : 'ipv6')
}
