/**
 * A byte string that must not be printed: read keys, scope secrets, the node secret.
 *
 * Its text, JSON and inspected forms all read "[secret]", so that a careless log line cannot leak it.
 */
export class Secret {
  readonly #bytes: Uint8Array

  /** Takes the bytes; the caller must not change them afterwards. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** The bytes themselves, borrowed: never change them, never keep them in a log or an error. */
  reveal(): Uint8Array {
    return this.#bytes
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  // What node's util.inspect (and so console.log) prints.
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]'
  }
}
