import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { isIdentifier } from 'typescript/unstable/ast'
import { doorsOf } from './architecture/doors.ts'
import { hiddenExports, sharedNames } from './architecture/exports.ts'
import { cyclesOf } from './architecture/graph.ts'
import { DOORS, HOUSE, KNOWN_CYCLES, KNOWN_SHARED_NAMES, KNOWN_STATE } from './architecture/house.ts'
import { layersOf, layerViolations, localImports, roomsOf, strangers } from './architecture/layers.ts'
import { type Module, parseModules, walk } from './architecture/modules.ts'
import {
  commentsOf,
  definedIds,
  idsIn,
  missingDocuments,
  titleProblem,
  titlesOf,
  wideComments,
  wideMarkdown,
} from './architecture/prose.ts'
import { codeLines, functionLines, quantile, roomSizes } from './architecture/shape.ts'
import { mutableState } from './architecture/state.ts'

// The checks are functions in test/architecture/; checks.test.ts there shows each of them to fail on bad
// input. This file applies them to the repository.

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const LINES_MAX = 320
const FILES_PER_ROOM_MAX = 20
const FUNCTION_LINES_MAX = 60
const FUNCTION_LINES_P90_MAX = 20

const PAGES = globSync(['*.md', '{docs,bench,examples,helm,test}/**/*.md'], { cwd: ROOT }).toSorted()
const MODULES = parseModules(
  new Map(globSync('{src,test,bench,build}/**/*.ts', { cwd: ROOT }).map(path => [path, read(path)])),
)
const TESTS = MODULES.filter(({ path }) => path.startsWith('test/'))
/** Files of src/, by their paths below it. */
const SOURCES: readonly Module[] = MODULES.filter(({ path }) => path.startsWith('src/')).map(module => ({
  ...module,
  path: relative('src', module.path),
}))

function read(path: string): string {
  return readFileSync(`${ROOT}${path}`, 'utf8')
}

test('the parser returns every file with its imports and its comments', () => {
  assert.ok(SOURCES.length > 200 && TESTS.length > 100 && PAGES.length > 10)
  assert.ok(SOURCES.flatMap(({ imports }) => imports).length > 1000)
  assert.ok(SOURCES.flatMap(commentsOf).length > 1000)
  assert.ok(TESTS.flatMap(titlesOf).length > 800)
})

test('every file is in a folder and a room of the house', () => {
  assert.deepEqual(strangers(SOURCES, HOUSE), [])
})

test('every import is allowed by the table of layers', () => {
  assert.deepEqual(layerViolations(SOURCES, HOUSE), [])
})

for (const page of ['CONTRIBUTING.md', 'docs/architecture.md']) {
  test(`the table of layers in ${page} says what the test holds`, () => {
    const table = layersOf(read(page))
    const roots = [...table].filter(([, allowed]) => allowed === 'everything').map(([folder]) => folder)
    assert.deepEqual(new Set(roots), HOUSE.roots)
    const layers = [...table].filter(([folder]) => !HOUSE.roots.has(folder))
    assert.deepEqual(sortLayers(layers), sortLayers([...HOUSE.layers]))
  })
}

function sortLayers(layers: readonly (readonly [string, unknown])[]): unknown {
  return layers
    .map(([folder, layer]) => {
      const { folders, contracts } = layer as { readonly folders: string[]; readonly contracts: string[] }
      return [folder, folders.toSorted(), contracts.toSorted()] as const
    })
    .toSorted(([a], [b]) => a.localeCompare(b))
}

test('the table of rooms in docs/architecture.md says what the test holds', () => {
  assert.deepEqual(sortRooms(roomsOf(read('docs/architecture.md'))), sortRooms(HOUSE.rooms))
})

function sortRooms(rooms: ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>): readonly string[] {
  return [...rooms]
    .flatMap(([folder, inner]) =>
      [...inner].map(([room, allowed]) => `${folder}/${room}: ${allowed.toSorted().join(' ')}`),
    )
    .toSorted()
}

test('contracts that a folder imports as types exist, and use no code beyond that of oci/ and lib/', () => {
  const contracts = new Set([...HOUSE.layers.values()].flatMap(({ contracts }) => contracts))
  contracts.delete('config/config.ts')
  const found = SOURCES.filter(({ path }) => contracts.has(path))
  assert.equal(found.length, contracts.size)
  for (const source of found) {
    for (const { target, isTypeOnly } of localImports(source)) {
      assert.ok(isTypeOnly || /^(?:oci|lib)\//.test(target), `${source.path} imports ${target}`)
    }
  }
})

test('no files import each other in a circle, types included', () => {
  assert.deepEqual(new Set(cyclesOf(SOURCES)), KNOWN_CYCLES)
})

test(`no room of src/ has more than ${FILES_PER_ROOM_MAX} files at one level`, () => {
  const large = roomSizes(SOURCES.map(({ path }) => path)).filter(({ count }) => count > FILES_PER_ROOM_MAX)
  assert.deepEqual(large, [])
})

test(`no file of src/ has more than ${LINES_MAX} lines, comments and empty ones aside`, () => {
  for (const { path, text } of SOURCES) {
    const lines = codeLines(text)
    assert.ok(lines <= LINES_MAX, `${path} has ${lines}`)
  }
})

test(`no function of src/ has more than ${FUNCTION_LINES_MAX} lines, and nine of ten at most ${FUNCTION_LINES_P90_MAX}`, () => {
  const functions = SOURCES.flatMap(functionLines)
  assert.ok(functions.length > 1000)
  assert.deepEqual(
    functions.filter(({ count }) => count > FUNCTION_LINES_MAX),
    [],
  )
  const p90 = quantile(
    functions.map(({ count }) => count),
    0.9,
  )
  assert.ok(p90 <= FUNCTION_LINES_P90_MAX, `nine of ten have at most ${p90}`)
})

test('exports have names and stand where they are made', () => {
  assert.deepEqual(SOURCES.flatMap(hiddenExports), [])
})

test('each exported name is exported by one file of src/', () => {
  const shared = sharedNames(SOURCES)
  assert.deepEqual(new Set(shared.keys()), KNOWN_SHARED_NAMES, inspect([...shared]))
})

test('no module of src/ has state that can change, but for those with a reason', () => {
  assert.deepEqual(new Set(SOURCES.flatMap(mutableState)), new Set(KNOWN_STATE.keys()))
})

test('only the listed files of src/ open sockets, make files or start processes, and each needs its entry', () => {
  const found = SOURCES.flatMap(source =>
    doorsOf(source).map(door => `${source.path} by ${door.split(': ')[0]}`),
  )
  const listed = [...DOORS].flatMap(([path, { modules }]) => modules.map(module => `${path} by ${module}`))
  const unlisted = [...new Set(found)].filter(door => !listed.includes(door))
  assert.deepEqual(unlisted, [], 'not in DOORS of test/architecture/house.ts')
  const unused = listed.filter(door => !found.includes(door))
  assert.deepEqual(unused, [], 'in DOORS of test/architecture/house.ts without need')
})

test('only lib/, http/threads/ and the rule of the tail name memory that threads share', () => {
  const named = SOURCES.filter(source => {
    let isNamed = false
    walk(source.tree, node => {
      if (isIdentifier(node) && /^(?:SharedArrayBuffer|Atomics)$/.test(node.text)) isNamed = true
    })
    return isNamed
  }).map(({ path }) => path)
  assert.ok(named.length > 0)
  const allowed = /^(?:lib|http\/threads)\/|^content\/tail\.ts$/
  assert.deepEqual(
    named.filter(path => !allowed.test(path)),
    [],
  )
})

test('only main.ts names the process', () => {
  const named = SOURCES.filter(source => {
    let isNamed = source.imports.some(({ specifier }) => /^(?:node:)?process$/.test(specifier))
    walk(source.tree, node => {
      if (isIdentifier(node) && node.text === 'process' && !isMember(node)) isNamed = true
    })
    return isNamed
  })
  assert.deepEqual(
    named.map(({ path }) => path),
    ['main.ts'],
  )
})

/** True for the name of a property or a parameter, which is not the global. */
function isMember(node: { readonly parent: unknown }): boolean {
  return (node.parent as { readonly name?: unknown }).name === node
}

test('files are TypeScript, kebab-case, no index, and are imported by their whole names', () => {
  for (const path of globSync('src/**/*', { cwd: ROOT, exclude: ['**/*.ts'] })) {
    assert.doesNotMatch(path, /\.\w+$/)
  }
  for (const { path, imports } of SOURCES) {
    assert.match(path, /^(?:[a-z0-9]+(?:-[a-z0-9]+)*\/)*[a-z0-9]+(?:-[a-z0-9]+)*\.ts$/)
    assert.doesNotMatch(path, /(?:^|\/)index\.ts$/)
    for (const { specifier } of imports) {
      if (specifier.startsWith('.')) assert.match(specifier, /\.ts$/, path)
    }
  }
})

test('comments end at column 110', () => {
  assert.deepEqual(MODULES.flatMap(wideComments), [])
})

test('lines of documents end at column 110, those of tables, links and code aside', () => {
  assert.deepEqual(
    PAGES.flatMap(path => wideMarkdown(path, read(path))),
    [],
  )
})

test('titles of tests begin with a small letter or a name, and have no full stop', () => {
  const problems = TESTS.flatMap(module =>
    titlesOf(module).flatMap(({ line, text }) => {
      const problem = titleProblem(text)
      return problem === undefined ? [] : [`${module.path}:${line} ${problem}: ${text}`]
    }),
  )
  assert.deepEqual(problems, [])
})

test('every id that a title of a test or a comment names is defined in docs/invariants.md', () => {
  const defined = definedIds(read('docs/invariants.md'))
  const unknown = MODULES.flatMap(module => {
    const texts = [...titlesOf(module), ...commentsOf(module)]
    return texts.flatMap(({ line, text }) =>
      idsIn(text)
        .filter(id => !defined.has(id))
        .map(id => `${module.path}:${line} ${id}`),
    )
  })
  assert.deepEqual(unknown, [])
})

test('no comment and no document points at a document that the repository does not have', () => {
  const files = new Set(PAGES)
  const missing = [
    ...MODULES.flatMap(module =>
      commentsOf(module).flatMap(({ text }) => missingDocuments(module.path, text, files)),
    ),
    ...PAGES.flatMap(path => missingDocuments(path, read(path), files)),
  ]
  assert.deepEqual(missing, [])
})

for (const page of ['CONTRIBUTING.md', 'docs/architecture.md', 'docs/invariants.md']) {
  test(`every source file that ${page} names exists`, () => {
    const paths = new Set(MODULES.map(({ path }) => path))
    const named = [...read(page).matchAll(/(?<![\w./-])(?:[\w-]+\/)+[\w-]+\.ts\b/g)].map(([path]) => path)
    assert.ok(named.length > 5)
    assert.deepEqual(
      named.filter(path => !paths.has(path) && !paths.has(`src/${path}`)),
      [],
    )
  })
}
