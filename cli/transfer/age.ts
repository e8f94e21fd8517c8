/**
 * Files under a passphrase, in the format of age (age-encryption.org/v1, recipient "scrypt"), written and read by its TypeScript library:
 * `age --decrypt` opens what is written here. What does not open is told apart: no such file, another passphrase, or damage.
 */

/** Loaded when it is needed: it takes as long as all the rest of a short command. */
const age = (): Promise<typeof import('age-encryption')> => import('age-encryption')

/** Why a file does not open. */
export class AgeError extends Error {
  override name = 'AgeError'
  /** FORMAT: no such file, or a damaged head. PASSPHRASE: the wrong one. DAMAGED: the content is. */
  readonly code: 'FORMAT' | 'PASSPHRASE' | 'DAMAGED'
  constructor(code: AgeError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

const INTRO = 'age-encryption.org/v1\n'
/** Some 256 MiB and a second, as age has it. */
const WORK = 18
/** A file may ask for this much and no more: 1 GiB. */
const WORK_MAX = 20
const HEAD_BYTES_MAX = 512
const HEAD = /^age-encryption\.org\/v1\n-> scrypt [A-Za-z0-9+/]{22} ([1-9][0-9]?)\n[A-Za-z0-9+/]{43}\n--- [A-Za-z0-9+/]{43}\n/

/** Whether the bytes begin like a file of age. */
export const isAge = (file: Uint8Array): boolean => ascii(file.subarray(0, INTRO.length)) === INTRO

/** The file that holds `plain` under `passphrase`. `work` is the base-2 logarithm of scrypt's cost. Holds the thread meanwhile. */
export async function sealUnder(passphrase: string, plain: Uint8Array, work: number = WORK): Promise<Uint8Array> {
  const { Encrypter } = await age()
  const encrypter = new Encrypter()
  encrypter.setPassphrase(passphrase)
  encrypter.setScryptWorkFactor(work)
  return await encrypter.encrypt(plain)
}

/** What the file holds, all of it checked. Throws AgeError. Holds the thread meanwhile. */
export async function openUnder(passphrase: string, file: Uint8Array): Promise<Uint8Array> {
  const head = HEAD.exec(ascii(file.subarray(0, HEAD_BYTES_MAX)))
  if (head === null) throw new AgeError('FORMAT', 'this is not a file under a passphrase, or its beginning is damaged')
  const work = Number(head[1])
  if (work > WORK_MAX) throw new AgeError('FORMAT', `the file asks for scrypt work 2^${work}, limit 2^${WORK_MAX}`)
  const { Decrypter } = await age()
  const decrypter = new Decrypter()
  decrypter.addPassphrase(passphrase)
  try {
    return await decrypter.decrypt(file)
  } catch (cause) {
    throw faultOf(cause)
  }
}

/** The library has words for what went wrong and no codes. */
function faultOf(cause: unknown): AgeError {
  const words = cause instanceof Error ? cause.message : ''
  if (words.startsWith('no identity matched')) return new AgeError('PASSPHRASE', 'the passphrase is not that of this file', { cause })
  if (/header|stanza|base64|padding/i.test(words)) return new AgeError('FORMAT', 'the beginning of the file is damaged', { cause })
  return new AgeError('DAMAGED', 'the file is damaged or cut off', { cause })
}

const ascii = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
