/**
 * The public names of the package "shoal/protocol": the share format, with no input or output of its own.
 */
export {
  CAR_HEAD_BYTES_MAX,
  type CarPlace,
  type CarSection,
  carBytesMax,
  carOrder,
  decodeCarHeader,
  decodeCarSection,
  encodeCarHeader,
  encodeCarSection,
} from './car.ts'
export { DAG_PB, formatCid, multihashOf, parseCid, RAW, rendezvousDigest, type ShareCid } from './cid.ts'
export { buildDag, type DagShape, leafBytes, nodeCount, ROOT_LEVEL, ShareDag, shapeOf } from './dag.ts'
export type { Entry, Extent } from './entry.ts'
export { AssertionError, EXIT, FORMAT_CODES, type FormatCode, FormatError, type InputCode, InputError } from './errors.ts'
export { type Kind, lineageScope, nodeScope, publicScope, randomScope } from './keys.ts'
export { type FileInfo, ShareWriter, type WrittenShare } from './layout.ts'
export { FORMAT } from './limits.ts'
export { formatLink, type Link, parseLink } from './link.ts'
export { checkDir, checkName, checkPath } from './names.ts'
export type { MaybePromise, Primitives } from './primitives.ts'
export { type ReaderInit, ShareReader } from './reader.ts'
export type { BlockCounts } from './root.ts'
export { type BlockOpener, type BlockSealer, createOpener, createSealer, hashBlock, type SealedBlock } from './seal.ts'
export { Secret } from './secret.ts'
