/**
 * A router's UPnP service for ports (InternetGatewayDevice 1 and 2): found by SSDP, asked by SOAP over HTTP.
 *
 * Anybody on the local network can answer SSDP, so what is fetched lies at the private address that the answer came from, is short, and takes
 * little time; nothing of it is believed but two numbers and an address, which are checked from outside before they are used.
 */
import { createSocket } from 'node:dgram'
import { isIPv4 } from 'node:net'
import { MAPPING } from '../../../protocol/limits.ts'
import { classifyHost, isInSubnets } from '../addresses.ts'
import { ownSubnets } from '../local-network.ts'

const GROUP = '239.255.255.250'
const PORT = 1900
const DEVICES = ['urn:schemas-upnp-org:device:InternetGatewayDevice:1', 'urn:schemas-upnp-org:device:InternetGatewayDevice:2']
const SERVICE = /<serviceType>\s*(urn:schemas-upnp-org:service:WAN(?:IP|PPP)Connection:[12])\s*<\/serviceType>/
const CONTROL = /<controlURL>\s*([^<\s]{1,512})\s*<\/controlURL>/

/** Where to send requests to, and what kind of service it is. */
export interface Gateway {
  control: URL
  service: string
}

export interface Mapping {
  /** What the router says is its address outside. */
  host: string
  port: number
}

/** Routers that answer on the network of `localHost`, at most MAPPING.gatewaysMax. Throws the signal's reason. */
export async function findGateways(localHost: string, outer: AbortSignal): Promise<Gateway[]> {
  const gateways: Gateway[] = []
  for (const location of await search(localHost, outer)) {
    const gateway = await describeGateway(location, AbortSignal.any([outer, AbortSignal.timeout(MAPPING.requestMs)])).catch(() => null) // not a router
    if (gateway !== null) gateways.push(gateway)
  }
  outer.throwIfAborted()
  return gateways
}

/** Has a TCP port passed on to this machine for `MAPPING.leaseSeconds`, and gives the port outside. Throws when the router will not. */
export async function mapPort(gateway: Gateway, localHost: string, port: number, outer: AbortSignal): Promise<number> {
  for (let tries = 0; ; tries++) {
    // Another computer of the home may have the same port outside.
    const outside = port + tries * MAPPING.portStep
    try {
      await ask(gateway, 'AddPortMapping', outer, [
        ...outsideFields(outside),
        ['NewInternalPort', port],
        ['NewInternalClient', localHost],
        ['NewEnabled', 1],
        ['NewPortMappingDescription', 'shoal'],
        ['NewLeaseDuration', MAPPING.leaseSeconds],
      ])
      return outside
    } catch (cause) {
      outer.throwIfAborted()
      if (tries + 1 >= MAPPING.portTriesMax) throw cause
    }
  }
}

/** What the router says is its address outside. Throws when it does not. */
export async function externalHost(gateway: Gateway, outer: AbortSignal): Promise<string> {
  return textOf(await ask(gateway, 'GetExternalIPAddress', outer), 'NewExternalIPAddress')
}

/** Takes a mapping back. */
export async function unmapPort(gateway: Gateway, port: number, outer: AbortSignal): Promise<void> {
  await ask(gateway, 'DeletePortMapping', outer, outsideFields(port))
}

const ask = (gateway: Gateway, action: string, outer: AbortSignal, fields: [string, string | number][] = []): Promise<string> =>
  call(gateway, action, fields, AbortSignal.any([outer, AbortSignal.timeout(MAPPING.requestMs)]))

const outsideFields = (port: number): [string, string | number][] => [
  ['NewRemoteHost', ''],
  ['NewExternalPort', port],
  ['NewProtocol', 'TCP'],
]

/** Asks for routers, and gives the addresses of their descriptions. */
async function search(localHost: string, signal: AbortSignal): Promise<URL[]> {
  const found = new Map<string, URL>()
  const socket = createSocket({ type: 'udp4' })
  const { promise, resolve } = Promise.withResolvers<void>()
  socket.on('error', () => resolve()) // no multicast here: then nobody is found
  socket.on('message', (message, { address }) => {
    const text = /^location:\s*(http:\/\/\S{1,512})\s*$/im.exec(message.subarray(0, MAPPING.answerBytesMax).toString('latin1'))?.[1]
    const url = text === undefined || !URL.canParse(text) ? null : new URL(text)
    if (url !== null && isRouterAt(url, address, ownSubnets()) && found.size < MAPPING.gatewaysMax) found.set(url.href, url)
  })
  socket.bind({ address: localHost, port: 0 }, () => {
    try {
      socket.setMulticastInterface(localHost)
    } catch {
      return resolve() // the address went away meanwhile
    }
    for (const device of DEVICES) {
      const lines = ['M-SEARCH * HTTP/1.1', `HOST: ${GROUP}:${PORT}`, 'MAN: "ssdp:discover"', 'MX: 2', `ST: ${device}`, '', '']
      socket.send(lines.join('\r\n'), PORT, GROUP, () => {}) // what fails is not answered
    }
  })
  const timer = setTimeout(resolve, MAPPING.searchMs)
  signal.addEventListener('abort', () => resolve(), { once: true })
  await promise
  clearTimeout(timer)
  socket.close()
  signal.throwIfAborted()
  return [...found.values()]
}

/** Whether a description may be fetched there: from the sender of the answer itself, at a private address of a network of ours. */
export function isRouterAt({ hostname: host }: URL, sender: string, subnets: readonly string[]): boolean {
  const endpoint = { kind: 'ip4', host, port: 0, isRelayed: false } as const
  return host === sender && isIPv4(host) && classifyHost(endpoint) === 'private' && isInSubnets(endpoint, subnets)
}

/** What a router says of itself; null when it passes no ports on, or names another host for it. Throws what goes wrong on the way. */
export async function describeGateway(location: URL, signal: AbortSignal): Promise<Gateway | null> {
  const text = await fetchText(location, { signal })
  for (const service of text.split('<service>').slice(1, MAPPING.servicesMax)) {
    const name = SERVICE.exec(service)?.[1]
    const path = CONTROL.exec(service)?.[1]
    if (name === undefined || path === undefined || !URL.canParse(path, location.href)) continue
    const control = new URL(path, location)
    if (control.protocol === 'http:' && control.hostname === location.hostname) return { control, service: name }
  }
  return null
}

async function call(
  { control, service }: Gateway,
  action: string,
  fields: [string, string | number][],
  signal: AbortSignal,
): Promise<string> {
  const body =
    '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>' +
    `<u:${action} xmlns:u="${service}">${fields.map(([name, value]) => `<${name}>${value}</${name}>`).join('')}</u:${action}></s:Body></s:Envelope>`
  const headers = { 'content-type': 'text/xml; charset="utf-8"', soapaction: `"${service}#${action}"` }
  return await fetchText(control, { method: 'POST', body, headers, signal })
}

async function fetchText(url: URL, options: RequestInit): Promise<string> {
  const response = await fetch(url, { ...options, redirect: 'error' })
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > MAPPING.answerBytesMax) throw new Error(`an answer of more than ${MAPPING.answerBytesMax} bytes`)
    chunks.push(chunk)
  }
  const text = Buffer.concat(chunks).toString('utf8')
  if (!response.ok) throw new Error(`the router says ${response.status}: ${/<errorDescription>([^<]{0,100})/.exec(text)?.[1] ?? 'no'}`)
  return text
}

function textOf(xml: string, name: string): string {
  const text = new RegExp(`<${name}>\\s*([^<\\s]{1,64})\\s*</${name}>`).exec(xml)?.[1]
  if (text === undefined) throw new Error(`no ${name} in the answer`)
  return text
}
