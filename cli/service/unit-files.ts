/**
 * The files that make a daemon start with its user's session: a systemd user unit, a launchd agent. Text in, text out.
 *
 * Paths are quoted by the rules of each format: a space, a percent sign or a quote in one must not become another argument.
 */

/** What the service runs. All paths are absolute. */
export interface ServiceCommand {
  /** The Node that runs Shoal. */
  node: string
  /** cli/shoal.js of the installed Shoal. */
  script: string
  home: string
  /** Options of the node, as the command line takes them. */
  options: readonly string[]
  /** For the log of launchd, which has no journal. */
  logToFile: boolean
}

const argumentsOf = ({ node, script, home, options, logToFile }: ServiceCommand): string[] => [
  node,
  script,
  'daemon',
  '--home',
  home,
  ...options,
  ...(logToFile ? ['--log-file'] : []),
]

/** Throws RangeError for a path that no unit file can hold. */
export function systemdUnit(command: ServiceCommand): string {
  return `[Unit]
Description=Shoal, encrypted peer-to-peer file sharing
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=exec
ExecStart=${argumentsOf(command).map(systemdQuoted).join(' ')}
Restart=on-failure
RestartSec=5
# Shoal ends in order within 5 s of SIGTERM.
KillMode=mixed
TimeoutStopSec=15
# Another Shoal on this home, a setting that cannot be used, an old Node: trying again changes nothing.
RestartPreventExitStatus=2 3 12 13
UMask=0077
LimitNOFILE=8192
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=default.target
`
}

/** In double quotes, with systemd's own marks ("%" and "$") doubled. */
function systemdQuoted(text: string): string {
  assertPlain(text)
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`
}

/** The label of the agent, and the name of its file. */
export const LAUNCHD_LABEL = 'org.shoal.daemon'

/** `errorFile`: what the daemon says before its log is open, as that another Shoal runs. */
export function launchdAgent(command: ServiceCommand, errorFile: string): string {
  const strings = argumentsOf(command).map((text) => `    <string>${xmlText(text)}</string>\n`)
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>${LAUNCHD_LABEL}</string>
  <key>ProgramArguments</key>
  <array>
${strings.join('')}  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>30</integer>
  <key>ExitTimeOut</key>
  <integer>15</integer>
  <key>StandardErrorPath</key>
  <string>${xmlText(errorFile)}</string>
  <key>Umask</key>
  <integer>63</integer>
  <key>ProcessType</key>
  <string>Background</string>
</dict>
</plist>
`
}

function xmlText(text: string): string {
  assertPlain(text)
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

/** Control characters end lines and words in both formats, and XML has no way to write most of them. */
function assertPlain(text: string): void {
  if (/[\u0000-\u001f\u007f]/.test(text)) throw new RangeError('a path with a control character cannot stand in a service file')
}
