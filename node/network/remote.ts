/** Who is at the other end of a stream, as the muxed and encrypted connection below it proves. */
export interface Remote {
  peerId: string
  /** The multihash bytes of the peer id: what a hello is bound to. */
  peerIdBytes: Uint8Array
  /** Multiaddr text of the connection. */
  address: string
  isRelayed: boolean
  /** Who opened the stream: one of ours may run on a connection that the peer opened. */
  direction: 'inbound' | 'outbound'
}
