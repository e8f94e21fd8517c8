/** What the local API says of CAR files; a part of api.ts. Types only. */

/** Write the sealed blocks of a kept share to a file. */
export interface CarExportRequest {
  cid: string
  /** Absolute. */
  file: string
  /** Replace a file that stands there. */
  force: boolean
}

export interface CarExportResult {
  cid: string
  file: string
  fileBytes: number
  /** Of the tree, its nodes included. */
  blocks: number
}

/** Take a share from a file, and keep and serve it as `seed` does. */
export interface CarImportRequest {
  /** Absolute. */
  file: string
}

export interface CarImportResult {
  cid: string
  wireBytes: number
  /** Leaves. */
  blockCount: number
  /** Of all blocks, its nodes included: those that were not here before, and those that were. */
  newBlocks: number
  reusedBlocks: number
}
