/** The handlers of a link that is refused after its hello: a closing link tells nothing, but it has to run in order to close. */
import type { PeerLinkHandlers } from '../network/peer-link.ts'

/** Hears nothing: for links that are refused after the hello. */
export const NOBODY: PeerLinkHandlers = {
  onHave: () => {},
  onProgress: () => {},
  onBlock: () => Promise.resolve(),
  onSuggest: () => {},
  onAbsent: () => {},
  onRequest: () => {},
  onCancel: () => {},
  onPeers: () => {},
}
