/**
 * Reads the files of a share in their order, with the small ones after the current one read meanwhile: 100,000 small files are 500,000 system
 * calls, each of which the reader would wait for.
 *
 * At most STORAGE.walkFilesAtOnce are ahead, each of at most two pieces in memory, whatever a file has grown to since the walk. What fails
 * is told where the file's turn is, not before.
 */
import { FORMAT, STORAGE } from '../../protocol/limits.ts'
import type { SourceFile } from './walk.ts'

/** One file's bytes, as `readSource` gives them. */
type Reading = AsyncGenerator<Uint8Array>

interface Begun {
  reading: Reading
  /** What it gave so far, in order; empty for a large file, which begins at its turn. */
  given: Promise<IteratorResult<Uint8Array>>[]
}

/** The readings of `files`, one after the other. Whoever made it ends it with `close` in any case. */
export class SourcesAhead {
  readonly #files: Iterator<SourceFile>
  readonly #read: (file: SourceFile) => Reading
  readonly #begun: Begun[] = []
  #current: Reading | null = null

  constructor(files: Iterable<SourceFile>, read: (file: SourceFile) => Reading) {
    this.#files = files[Symbol.iterator]()
    this.#read = read
  }

  /** The bytes of the next file, to be read to the end before the next one is asked for. Throws RangeError after the last. */
  next(): Reading {
    this.#fill()
    const first = this.#begun.shift()
    if (first === undefined) throw new RangeError('no file is left')
    this.#current = first.reading
    return whole(first)
  }

  /** Closes what is open: what was begun ahead, and the current one where it was not read to its end. */
  async close(): Promise<void> {
    const readings = this.#begun.splice(0).map(({ reading }) => reading)
    if (this.#current !== null) readings.push(this.#current)
    // A reading that failed ahead of its turn has nobody to tell any more: the share fails for another reason.
    await Promise.allSettled(readings.map((reading) => reading.return(undefined)))
  }

  #fill(): void {
    while (this.#begun.length < STORAGE.walkFilesAtOnce) {
      const next = this.#files.next()
      if (next.done === true) return
      this.#begun.push(begin(this.#read(next.value), next.value.sizeBytes < FORMAT.pieceBytes))
    }
  }
}

function begin(reading: Reading, isSmall: boolean): Begun {
  if (!isSmall) return { reading, given: [] }
  // The second answer is the end of a file that is still small: by then it is closed.
  const given = [reading.next(), reading.next()]
  for (const answer of given) answer.catch(() => {}) // told at its turn
  return { reading, given }
}

async function* whole({ reading, given }: Begun): Reading {
  for (const answer of given) {
    const { done, value } = await answer
    if (done === true) return
    yield value
  }
  yield* reading
}
