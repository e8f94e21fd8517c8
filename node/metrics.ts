/**
 * The figures of a node as Prometheus reads them (text format 0.0.4): one family a figure, base units, counters end in _total.
 *
 * No label names a share, a peer, an address or a path: who gathers metrics learns how much, not what and with whom.
 */
import type { LimitRow, StatusResult } from './control/api.ts'

/** Everything that is told. Counters run from the start of the node. */
export interface NodeFigures {
  status: StatusResult
  startedSeconds: number
  /** Kept shares by state. */
  shares: { complete: number; partial: number }
  /** Room on the file system of the home; null when it could not be read. */
  freeBytes: number | null
  openFiles: number | null
  /** Jobs that ended, by code; 'OK' for those that succeeded. */
  jobsEnded: ReadonlyMap<string, number>
  cpuSeconds: number
  heapBytes: number
  /** Those of `status --limits`. */
  limits: readonly LimitRow[]
}

type Labels = Record<string, string>
type Sample = [value: number, labels?: Labels]

/** One family: its head and its samples. */
export function family(name: string, type: 'gauge' | 'counter', help: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return ''
  const lines = samples.map(([value, labels]) => `${name}${labelsOf(labels)} ${Number.isFinite(value) ? value : 'NaN'}\n`)
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}

function labelsOf(labels: Labels | undefined): string {
  if (labels === undefined) return ''
  const quoted = (text: string): string => text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')
  return `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${quoted(value)}"`)
    .join(',')}}`
}

/** The whole page. */
export function metricsPage(figures: NodeFigures): string {
  const { status } = figures
  const one = (name: string, type: 'gauge' | 'counter', help: string, value: number | null): string =>
    family(name, type, help, value === null ? [] : [[value]])
  return [
    family('shoal_build_info', 'gauge', 'Version of Shoal and of the Node that runs it.', [
      [1, { version: status.version, node: process.versions.node }],
    ]),
    ...trafficFamilies(status),
    ...limitFamilies(figures.limits),
    one('shoal_connections', 'gauge', 'Connections to peers.', status.connections),
    one('shoal_swarm_sessions', 'gauge', 'Sessions with peers, one for each share and peer.', status.swarmPeers),
    family(
      'shoal_dht_peers',
      'gauge',
      'Peers in the routing table of each DHT.',
      status.dht.map(({ name, peers }) => [peers, { dht: name }]),
    ),
    family('shoal_shares', 'gauge', 'Shares that are kept.', [
      [figures.shares.complete, { state: 'complete' }],
      [figures.shares.partial, { state: 'partial' }],
    ]),
    one('shoal_store_blocks', 'gauge', 'Blocks in the store.', status.blocks),
    one('shoal_disk_free_bytes', 'gauge', 'Room for this user on the file system of the home.', figures.freeBytes),
    one('shoal_jobs_running', 'gauge', 'Jobs under way.', status.jobs),
    family(
      'shoal_jobs_ended_total',
      'counter',
      'Jobs that ended, by how; OK for success, else the code of the failure.',
      [...figures.jobsEnded].map(([code, count]) => [count, { code }]),
    ),
    one(
      'shoal_eventloop_lag_p99_seconds',
      'gauge',
      'How late the event loop was in the last minutes, 99th percentile.',
      status.lagP99Ms / 1e3,
    ),
    one('shoal_stopping', 'gauge', '1 while the node is about to end.', status.stopping ? 1 : 0),
    one('process_start_time_seconds', 'gauge', 'Start of the node, seconds since 1970.', figures.startedSeconds),
    one('process_cpu_seconds_total', 'counter', 'Processor time of the process.', figures.cpuSeconds),
    one('process_resident_memory_bytes', 'gauge', 'Memory of the process.', status.rssBytes),
    one('nodejs_heap_size_used_bytes', 'gauge', 'Used heap of JavaScript.', figures.heapBytes),
    one('process_open_fds', 'gauge', 'Open file descriptors.', figures.openFiles),
  ].join('')
}

/** Of the limits whose use is known, or which count how often they were run into. The units are those of each limit: its label is its name. */
function limitFamilies(limits: readonly LimitRow[]): string[] {
  const told = limits.filter(({ used, hits }) => used !== null || hits !== null)
  const samples = (of: 'value' | 'used' | 'hits'): Sample[] =>
    told.flatMap((row): Sample[] => (row[of] === null ? [] : [[row[of], { limit: row.name }]]))
  return [
    family('shoal_limit_max', 'gauge', 'Limits that a peer or user can run into.', samples('value')),
    family('shoal_limit_used', 'gauge', 'How much of each limit is used.', samples('used')),
    family('shoal_limit_hits_total', 'counter', 'How often each limit was run into.', samples('hits')),
  ]
}

function trafficFamilies({ bytesIn, bytesOut, rates }: StatusResult): string[] {
  const sides = [
    ['in', rates.down],
    ['out', rates.up],
  ] as const
  return [
    family('shoal_share_bytes_total', 'counter', 'Bytes of shares received and sent.', [
      [bytesIn, { direction: 'in' }],
      [bytesOut, { direction: 'out' }],
    ]),
    family(
      'shoal_share_bytes_per_second',
      'gauge',
      'The same over the last seconds.',
      sides.map(([direction, rate]) => [rate.bytesPerSecond, { direction }]),
    ),
    family(
      'shoal_cap_bytes_per_second',
      'gauge',
      'Caps that are set.',
      sides.flatMap(([direction, rate]): Sample[] => (rate.capBytesPerSecond === null ? [] : [[rate.capBytesPerSecond, { direction }]])),
    ),
  ]
}
