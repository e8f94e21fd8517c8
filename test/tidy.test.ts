/** The house rules as a test: who may import whom, file sizes, words that do not belong in a room. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { VERSION } from '../node/control/api.ts'
import { parseHeader } from './mutants/run.ts'

const ROOT = resolve(import.meta.dirname, '..')
const ROOMS = ['protocol', 'node', 'cli', 'bench', 'test']
const LINES_MAX = 500

interface Source {
  /** From the root, with "/". */
  path: string
  text: string
  /** Import specifiers; relative ones as paths from the root. */
  imports: string[]
}

const SPECIFIER = /(?:^|\n)\s*(?:import|export)\s[^'"`;]*?from\s*'([^']+)'|(?:^|\n)\s*import\s*'([^']+)'|\bimport\(\s*'([^']+)'/g

function importsOf(path: string, text: string): string[] {
  return [...text.matchAll(SPECIFIER)].map(([, from, bare, dynamic]) => {
    const specifier = from ?? bare ?? dynamic ?? ''
    return specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : specifier
  })
}

function filesUnder(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`
    return entry.isDirectory() ? filesUnder(path) : [path]
  })
}

const allFiles = ROOMS.filter((room) => statSync(join(ROOT, room), { throwIfNoEntry: false })).flatMap(filesUnder)
const sources: Source[] = allFiles
  .filter((path) => /\.(ts|js)$/.test(path))
  .map((path) => {
    const text = readFileSync(join(ROOT, path), 'utf8')
    return { path, text, imports: importsOf(path, text) }
  })

const readText = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

/** The documents, besides the license. */
const PAPERS = ['README.md', 'CHANGELOG.md', 'SECURITY.md', 'LEAKS.md', ...allFiles.filter((path) => path.endsWith('.md'))]

/** The source without comments and the contents of strings: a word in a sentence is no use of it. */
const codeOf = (text: string): string =>
  text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|\s)\/\/.*$/gm, '')
    .replace(/'(?:[^'\\\n]|\\.)*'/g, "''")

const isUnder = (path: string, ...folders: string[]): boolean => folders.some((folder) => path === folder || path.startsWith(`${folder}/`))
const isRelative = (specifier: string): boolean => isUnder(specifier, ...ROOMS)

/** "file -> import" for each import of a file chosen by `of` that `allows` does not allow. */
const wrongImports = (of: (path: string) => boolean, allows: (specifier: string) => boolean): string[] =>
  sources
    .filter(({ path }) => of(path))
    .flatMap(({ path, imports }) => imports.filter((specifier) => !allows(specifier)).map((specifier) => `${path} -> ${specifier}`))

const isPackage = (specifier: string, ...names: string[]): boolean =>
  names.some((name) => specifier === name || specifier.startsWith(`${name}/`))

/** The only files that may make one of those. */
const LIBP2P_FILES = ['node/network/libp2p-node.ts', 'node/network/transports.ts', 'node/network/dht.ts']

/** Packages that make a libp2p node or one of its services. */
const LIBP2P_FACTORIES = [
  'libp2p',
  '@libp2p/tcp',
  '@libp2p/websockets',
  '@libp2p/mdns',
  '@libp2p/bootstrap',
  '@libp2p/kad-dht',
  '@libp2p/identify',
  '@libp2p/ping',
  '@libp2p/circuit-relay-v2',
  '@libp2p/autonat-v2',
  '@chainsafe/libp2p-noise',
  '@chainsafe/libp2p-yamux',
]

describe('who may import whom', () => {
  it('finds the imports of the sources at all', () => {
    expect(sources.length).toBeGreaterThan(20)
    const text = [
      "import a from 'a'",
      "import {\n  b,\n} from './b.ts'",
      "export type { C } from '../c.ts'",
      "import 'd'",
      `const e = await ${'import'}('./e.ts')`,
    ].join('\n')
    expect(importsOf('cli/x/y.ts', text)).toEqual(['a', 'cli/x/b.ts', 'cli/c.ts', 'd', 'cli/x/e.ts'])
  })

  it('protocol imports itself and its few libraries, nothing of the machine', () => {
    const libraries = [
      'multiformats',
      '@ipld/dag-cbor',
      '@ipld/dag-pb',
      'ipfs-unixfs',
      'cborg',
      '@noble/hashes',
      '@noble/ciphers',
      'age-encryption',
    ]
    const isAllowed = (specifier: string): boolean => isUnder(specifier, 'protocol') || isPackage(specifier, ...libraries)
    expect(wrongImports((path) => isUnder(path, 'protocol'), isAllowed)).toEqual([])
  })

  it('the format does not know the wire, and the wire does not know the swarm', () => {
    const isFormat = (path: string): boolean =>
      isUnder(path, 'protocol') && !isUnder(path, 'protocol/wire', 'protocol/swarm', 'protocol/index.ts')
    expect(wrongImports(isFormat, (specifier) => !isUnder(specifier, 'protocol/wire', 'protocol/swarm'))).toEqual([])
    expect(
      wrongImports(
        (path) => isUnder(path, 'protocol/wire'),
        (specifier) => !isUnder(specifier, 'protocol/swarm'),
      ),
    ).toEqual([])
  })

  it('network and storage know the protocol and the log, never each other', () => {
    for (const room of ['node/network', 'node/storage', 'node/crypto', 'node/control']) {
      const also = { 'node/control': ['node/paths.ts'], 'node/crypto': ['node/block-buffers.ts'] }[room] ?? []
      expect(
        wrongImports(
          (path) => isUnder(path, room),
          (specifier) => !isRelative(specifier) || isUnder(specifier, room, 'protocol', 'node/log.ts', ...also),
        ),
      ).toEqual([])
    }
  })

  it('the command line knows the local API, and only its one door knows the node', () => {
    const ground = [
      'protocol',
      'cli',
      'node/control/api.ts',
      'node/control/client.ts',
      'node/control/reach-result.ts',
      'node/config.ts',
      'node/free-space.ts',
      'node/paths.ts',
      'node/log.ts',
      'node/log-file.ts',
    ]
    const isAllowed = (specifier: string): boolean => !isRelative(specifier) || isUnder(specifier, ...ground)
    expect(wrongImports((path) => isUnder(path, 'cli') && path !== 'cli/local-node.ts', isAllowed)).toEqual([])
    expect(
      wrongImports(
        (path) => path === 'cli/local-node.ts',
        (specifier) => specifier === 'node/main.ts',
      ),
    ).toEqual([])
  })

  it('nothing below knows the command line or the tests', () => {
    expect(
      wrongImports(
        (path) => isUnder(path, 'protocol', 'node'),
        (specifier) => !isUnder(specifier, 'cli', 'test', 'bench'),
      ),
    ).toEqual([])
    expect(
      wrongImports(
        (path) => isUnder(path, 'cli'),
        (specifier) => !isUnder(specifier, 'test', 'bench'),
      ),
    ).toEqual([])
  })

  it('libp2p factories appear where the stack is made, and nowhere else', () => {
    const isNode = (path: string): boolean => isUnder(path, 'node', 'cli', 'protocol') && !LIBP2P_FILES.includes(path)
    // Types may be named anywhere in the network room.
    const valueImports = sources
      .filter(({ path }) => isNode(path))
      .flatMap(({ path, text }) =>
        importsOf(path, text.replace(/(^|\n)(import|export) type [^;]*? from '[^']+'/g, ''))
          .filter((specifier) => LIBP2P_FACTORIES.includes(specifier))
          .map((specifier) => `${path} -> ${specifier}`),
      )
    expect(valueImports).toEqual([])
  })

  it('relative imports name a file that exists, with its ending', () => {
    const known = new Set(sources.map(({ path }) => path))
    expect(
      wrongImports(
        () => true,
        (specifier) => !isRelative(specifier) || known.has(specifier),
      ),
    ).toEqual([])
  })

  it('there are no cycles', () => {
    const edges = new Map(sources.map(({ path, imports }) => [path, imports.filter(isRelative)]))
    const done = new Set<string>()
    const cycles: string[] = []
    const visit = (path: string, trail: string[]): void => {
      if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '))
      if (done.has(path) || trail.includes(path)) return
      for (const next of edges.get(path) ?? []) visit(next, [...trail, path])
      done.add(path)
    }
    for (const path of edges.keys()) visit(path, [])
    expect(cycles).toEqual([])
  })
})

describe('the shape of files', () => {
  const matching = (pattern: RegExp, of: (path: string) => boolean): string[] =>
    sources.filter(({ path, text }) => of(path) && pattern.test(codeOf(text))).map(({ path }) => path)

  it('no file is longer than the limit', () => {
    expect(sources.filter(({ text }) => text.split('\n').length - 1 > LINES_MAX).map(({ path }) => path)).toEqual([])
  })

  it('every source opens by saying what it is', () => {
    const isSource = (path: string): boolean => !isUnder(path, 'test')
    expect(sources.filter(({ path, text }) => isSource(path) && !/^(#![^\n]*\n)?\/[*/]/.test(text)).map(({ path }) => path)).toEqual([])
  })

  it('names are kebab-case, and there is no heap of odds and ends', () => {
    const odd = sources
      .map(({ path }) => path)
      .filter((path) => !/^[a-z0-9/.-]+$/.test(path) || /(^|\/)(utils?|helpers?|misc|common)\.ts$/.test(path))
    expect(odd).toEqual([])
    expect(sources.map(({ path }) => path).filter((path) => path.endsWith('/index.ts') && path !== 'protocol/index.ts')).toEqual([])
  })

  it('nothing is exported by default, and nothing is left over', () => {
    expect(matching(/^export default /m, () => true)).toEqual([])
    const leftover = new RegExp(`\\b(${['TO', 'FIX'].map((word, i) => word + ['DO', 'ME'][i]).join('|')}|${'X'.repeat(3)})\\b`)
    expect(sources.filter(({ text }) => leftover.test(text)).map(({ path }) => path)).toEqual([])
    expect(matching(/\b(?:describe|it|test)\.only\(|\bdebugger\b/, () => true)).toEqual([])
  })

  it('the protocol uses no machine: no Buffer, process, clock, timer or randomness', () => {
    const banned =
      /\b(Buffer|process|Date|performance|setTimeout|setInterval|setImmediate|require|fetch)\b\s*[.(]|\bnew Date\b|\bMath\.random\b|\bcrypto\b/
    expect(matching(banned, (path) => isUnder(path, 'protocol'))).toEqual([])
  })
})

describe('upkeep', () => {
  it('the version is the same everywhere', () => {
    const manifest: { version: string } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    expect(VERSION).toBe(manifest.version)
    expect(readFileSync(join(ROOT, 'CHANGELOG.md'), 'utf8')).toContain(`## ${VERSION}`)
  })

  it('every mutant says which test must catch it', () => {
    const patches = allFiles.filter((path) => isUnder(path, 'test/mutants') && path.endsWith('.patch'))
    for (const path of patches) {
      const header = parseHeader(readFileSync(join(ROOT, path), 'utf8'))
      expect(header, path).not.toBeNull()
      // That the file holds a test of that name is for the runner to say: names may be put together at run time.
      expect(allFiles, path).toContain(header?.file)
    }
  })

  it('the README lists every exit code and no other', async () => {
    const { EXIT } = await import('../protocol/errors.ts')
    const listed = [...readText('README.md').matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code))
    expect(listed).toEqual(Object.values(EXIT))
  })

  it('the map in the README names every folder of the sources', () => {
    const map = /## Map\n+```\n([\s\S]*?)```/.exec(readText('README.md'))?.[1] ?? ''
    const folders = new Set(sources.map(({ path }) => dirname(path)).filter((path) => !isUnder(path, 'test/e2e')))
    expect([...folders].filter((folder) => !new RegExp(`(^|\\s)${folder.split('/').at(-1)}/`, 'm').test(map))).toEqual([])
  })

  it('links between documents lead somewhere', () => {
    const dead = PAPERS.flatMap((path) =>
      [...readText(path).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
        .map(([, target = '']) => normalize(join(dirname(path), target)))
        .filter((target) => !target.startsWith('http') && !statSync(join(ROOT, target), { throwIfNoEntry: false }))
        .map((target) => `${path} -> ${target}`),
    )
    expect(dead).toEqual([])
  })

  it('nothing speaks of documents or folders that are not part of Shoal', () => {
    // In two halves, so that this line does not find itself.
    const strange = new RegExp(
      [
        ['FORM', 'AT\\.md'],
        ['THRE', 'ATS'],
        ['DESI', 'GN\\.md'],
        ['LIBP', '2P\\.md'],
        ['STY', 'LE\\.md'],
        ['/wo', 'rk/'],
      ]
        .map((halves) => halves.join(''))
        .join('|'),
    )
    const papers = [...allFiles.filter((path) => /\.(ts|js|json|md|patch)$/.test(path)), ...PAPERS, 'package.json', '.ci/run']
    expect(papers.filter((path) => strange.test(readText(path)))).toEqual([])
  })

  it('the launcher stays plain enough for an old Node', () => {
    const launcher = readFileSync(join(ROOT, 'cli/shoal.js'), 'utf8')
    expect(codeOf(launcher)).not.toMatch(/\?\.|\?\?|^import\s|^await\s/m)
    expect(relative(ROOT, join(ROOT, 'cli/shoal.js'))).toBe(join('cli', 'shoal.js'))
    expect(statSync(join(ROOT, 'cli/shoal.js')).mode & 0o111).not.toBe(0)
  })
})
