/**
 * One file or empty directory of a share, as the index of the share states it.
 *
 * The same shapes as the reader of the share format gives; positions count data blocks in stream order.
 */

/** A stretch of a file: whole blocks, a hole of zeros, or a piece of a shared fragment block. */
export type Extent =
  | { kind: 'blocks'; position: number; count: number }
  | { kind: 'hole'; lengthBytes: number }
  | { kind: 'fragment'; position: number; offsetBytes: number; lengthBytes: number }

/** A file, or with an empty name an empty directory. */
export interface Entry {
  dir: string
  name: string
  sizeBytes: number
  extents: Extent[]
  executable: boolean
  mtimeSeconds?: number
  sha256?: Uint8Array
}
