import assert from 'node:assert/strict'
import { test } from 'node:test'
import { doorsOf } from './doors.ts'
import { hiddenExports, sharedNames } from './exports.ts'
import { cyclesOf } from './graph.ts'
import { type House, layersOf, layerViolations, roomsOf, strangers } from './layers.ts'
import { type Module, parseModules } from './modules.ts'
import {
  commentsOf,
  definedIds,
  idsIn,
  missingDocuments,
  titleProblem,
  titlesOf,
  wideComments,
  wideMarkdown,
} from './prose.ts'
import { codeLines, functionLines, quantile, roomSizes } from './shape.ts'
import { mutableState } from './state.ts'

/** Every file that a test of this file looks at, parsed at once: a parser takes a second to start. */
const MODULES = new Map(
  parseModules(
    new Map([
      ['a/circle.ts', "import type { B } from '../b/circle.ts'\nexport type A = B"],
      ['b/circle.ts', "export { c } from './next.ts'\nexport type B = 1"],
      ['b/next.ts', "export const c = (await import('../a/circle.ts')).a"],
      ['b/straight.ts', "import { c } from './next.ts'\nc()"],
      [
        'imports.ts',
        [
          "import { a, type B } from './a.ts'",
          "import type { C } from './c.ts'",
          "import { type D, type E } from './d.ts'",
          "import * as f from './f.ts'",
          "import g, { h } from './g.ts'",
          "import './side.ts'",
          "export { i } from './i.ts'",
          "export * from './j.ts'",
          "const k = await import('./k.ts')",
          "type L = import('./l.ts').L",
          "import {\n  m,\n} from './m.ts'",
          "// import './comment.ts'",
          "/* import './block.ts' */",
          'const n = "import \'./string.ts\'"',
          "const o = `import './template.ts' ${p(`import './inner.ts'`)} import './after.ts'`",
          "const q = /import '.\\/[/\"]expression.ts'/.test(r / s / t)",
          "const u = { from: 'x' }",
        ].join('\n'),
      ],
      [
        'exports.ts',
        [
          "import { hidden, type Also } from './a.ts'",
          "import { Third as third } from './b.ts'",
          'export const made = 1, twice = 2',
          'export interface Made {}',
          'function later(): void {}',
          'export { later }',
          'export { hidden, third }',
          'export type { Also }',
          'export default made',
        ].join('\n'),
      ],
      ['exports-again.ts', 'export class Made {}\nexport enum made2 { a }\nexport function later(): void {}'],
      [
        'state.ts',
        [
          'let one = 1',
          'export const two = new Map<string, string>()',
          "const three = ['a']",
          'const four = new Counter()',
          'const five = { a: [1] } as unknown as Five',
          'const READ: ReadonlyMap<string, string> = new Map([])',
          "const LIST = ['a'] as const",
          "const TYPED: readonly string[] = ['a']",
          "const CHECKED = ['a'] as const satisfies readonly string[]",
          "const PATTERN = new RegExp('a')",
          'const NOTHING = new Uint8Array(0)',
          'function inner(): void { let x = 1; const y = new Map() }',
        ].join('\n'),
      ],
      [
        'doors.ts',
        [
          "import { connect as dial, isIP, type Socket } from 'node:net'",
          "import { readFile, writeFile } from 'node:fs/promises'",
          "import * as fs from 'node:fs'",
          "import type { Agent } from 'undici'",
          "import { join } from 'node:path'",
          "import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'",
          "import unknown from 'some-package'",
          "import { createServer, semver, STATUS_CODES, undici } from '../lib/libraries.ts'",
          "const secret = await import('node:dgram')",
          "const got = await fetch('http://example.com')",
          "const other = globalThis.fetch('http://example.com')",
          "process.getBuiltinModule('node:net')",
          'store.fetch()',
          'const harmless = { fetch: 1, require: 2 }',
          '// new WebSocket() in a comment',
        ].join('\n'),
      ],
      [
        'functions.ts',
        [
          'function short(): number {\n  return 1\n}',
          'const arrow = () => 1',
          'const block = () => {\n\n  // Nothing.\n  return 2\n}',
          'class A {\n  method(): void {\n    a()\n    b()\n    c()\n  }\n}',
          'declare function bodiless(): void',
        ].join('\n'),
      ],
      [
        'comments.ts',
        [
          `// ${'x'.repeat(108)}`,
          '/**',
          ` * ${'x'.repeat(108)}`,
          ' */',
          `const a = '${'x'.repeat(200)}'`,
          `const b = 1 // ${'x'.repeat(108)}`,
          `// https://example.com/${'x'.repeat(108)}`,
          'const c = `// ${d} no comment`',
          '// short',
        ].join('\n'),
      ],
      [
        'titles.ts',
        [
          "test('one', () => {})",
          'test(`two ${x} things`, () => {})',
          "t.test('three', () => {})",
          "test.skip('four', () => {})",
          "pattern.test('five')",
          'test(variable, () => {})',
          "describe('six', () => { it('seven', () => {}) })",
        ].join('\n'),
      ],
    ]),
  ).map(module => [module.path, module]),
)

function parsed(path: string): Module {
  const module = MODULES.get(path)
  assert.ok(module !== undefined)
  return module
}

test('the parser sees every form of import and is fooled by no text that looks like one', () => {
  const seen = parsed('imports.ts').imports.map(({ specifier, isTypeOnly }) => `${specifier} ${isTypeOnly}`)
  const values = ['a', 'f', 'g', 'side', 'i', 'j', 'k', 'm'].map(name => `./${name}.ts false`)
  const types = ['c', 'd', 'l'].map(name => `./${name}.ts true`)
  assert.deepEqual(seen.toSorted(), [...values, ...types].toSorted())
})

const HOUSE: House = {
  layers: new Map([
    ['a', { folders: [], contracts: ['b/circle.ts'] }],
    ['b', { folders: [], contracts: [] }],
  ]),
  rooms: new Map([['b', new Map([['.', ['inner']]])]]),
  roots: new Set(['root']),
  drivers: /^b\/inner\//,
  driversOf: 'root',
}

test('an import without an edge, from a missing file, or of a driver is a violation, and a contract is none', () => {
  const modules = ['a/circle.ts', 'b/circle.ts', 'b/next.ts'].map(parsed)
  assert.deepEqual(layerViolations(modules, HOUSE), ['b/next.ts imports a/circle.ts'])
  assert.deepEqual(layerViolations([parsed('b/straight.ts')], HOUSE), [
    'b/straight.ts imports b/next.ts, which does not exist',
  ])
  const moved = [parsed('b/next.ts'), { ...parsed('b/straight.ts'), path: 'b/inner/x.ts' }]
  const direct = [{ ...parsed('b/next.ts'), path: 'b/inner/next.ts' }, parsed('b/straight.ts')]
  assert.deepEqual(layerViolations(moved, { ...HOUSE, roots: new Set(['b']) }).length, 2)
  assert.deepEqual(
    layerViolations(direct, HOUSE).filter(found => found.includes('straight')),
    ['b/straight.ts imports b/next.ts, which does not exist'],
  )
})

test('a room may import only the rooms in its row, and only the root names a driver', () => {
  const up = { ...parsed('b/straight.ts'), path: 'b/inner/x.ts', imports: importing('../next.ts') }
  assert.deepEqual(layerViolations([up, { ...parsed('b/next.ts'), imports: [] }], HOUSE), [
    'b/inner/x.ts imports b/next.ts: no such edge in b/',
  ])
  const down = { ...parsed('b/straight.ts'), imports: importing('./inner/x.ts') }
  assert.deepEqual(layerViolations([down, { ...up, imports: [] }], HOUSE), [])
  const driving = { ...parsed('a/circle.ts'), imports: importing('../b/inner/x.ts') }
  assert.deepEqual(layerViolations([driving, { ...up, imports: [] }], HOUSE), [
    'a/circle.ts imports b/inner/x.ts: only root names a driver',
  ])
})

function importing(specifier: string): Module['imports'] {
  return [{ specifier, isTypeOnly: false, isReexport: false, values: ['x'], locals: ['x'] }]
}

test('a folder and a room that the house does not have are found', () => {
  const at = (path: string): Module => ({ ...parsed('b/next.ts'), path })
  const paths = ['a/x.ts', 'b/inner/x.ts', 'b/x.ts', 'c/x.ts', 'x.ts', 'root/any/x.ts'].map(at)
  assert.deepEqual(strangers(paths, HOUSE), ['b/inner/x.ts', 'c/x.ts', 'x.ts'])
})

test('the tables of a document are read with their contracts, words and rooms', () => {
  const layers = layersOf(
    '| folder | may import |\n| --- | --- |\n| `a`, b | `c/x.ts` as types, d; remark |\n| e | everything |\n| f | nothing |\n',
  )
  const [a, e, f] = ['a', 'e', 'f'].map(folder => layers.get(folder))
  assert.deepEqual(a, { folders: ['d'], contracts: ['c/x.ts'] })
  assert.deepEqual(layers.get('b'), a)
  assert.equal(e, 'everything')
  assert.deepEqual(f, { folders: [], contracts: [] })
  const rooms = roomsOf(
    '| room | may import, within its folder |\n| --- | --- |\n| a/ | a/b |\n| a/b | a/ |\n| a/c | nothing |\n',
  )
  assert.deepEqual(
    [...(rooms.get('a') ?? [])],
    [
      ['.', ['b']],
      ['b', ['.']],
      ['c', []],
    ],
  )
})

test('a circle of imports is found and told, though one of them imports only a type', () => {
  const modules = ['a/circle.ts', 'b/circle.ts', 'b/next.ts', 'b/straight.ts'].map(parsed)
  assert.deepEqual(cyclesOf(modules), ['a/circle.ts → b/circle.ts → b/next.ts → a/circle.ts'])
  assert.deepEqual(cyclesOf(modules.slice(1)), [])
})

test('rooms are counted at one level, and lines without comments and empty ones', () => {
  assert.deepEqual(roomSizes(['a/x.ts', 'a/y.ts', 'a/b/z.ts']), [
    { where: 'a', count: 2 },
    { where: 'a/b', count: 1 },
  ])
  assert.equal(codeLines('a\n\n// b\n/**\n * c\n */\nd // e\n'), 2)
})

test('functions are counted with their signatures, methods and arrows with a block included', () => {
  assert.deepEqual(functionLines(parsed('functions.ts')), [
    { where: 'functions.ts:1', count: 3 },
    { where: 'functions.ts:5', count: 3 },
    { where: 'functions.ts:11', count: 5 },
  ])
  assert.equal(quantile([1, 2, 3, 4, 5, 6, 7, 8, 9, 100], 0.9), 9)
})

test('an export of what a file imported is found, with and without a from', () => {
  assert.deepEqual(
    hiddenExports(parsed('exports.ts')),
    [
      'exports.ts exports hidden',
      'exports.ts exports Third',
      'exports.ts exports Also',
      'exports.ts exports default',
    ].map(text => text.replace('Third', 'third')),
  )
  assert.deepEqual(hiddenExports(parsed('imports.ts')), [
    'imports.ts exports from ./i.ts',
    'imports.ts exports from ./j.ts',
  ])
})

test('a name that two files export is found, whatever each means by it', () => {
  const shared = sharedNames([parsed('exports.ts'), parsed('exports-again.ts')])
  assert.deepEqual([...shared.keys()].toSorted(), ['Made', 'later'])
})

test('state of a module is found, and tables that can only be read are not', () => {
  const names = mutableState(parsed('state.ts')).map(found => found.split(' ')[1])
  assert.deepEqual(names, ['one', 'two', 'three', 'four'])
})

test('every way to a socket, a file or a process is found', () => {
  assert.deepEqual(doorsOf(parsed('doors.ts')), [
    '@aws-sdk/client-s3: S3Client',
    'global: fetch',
    'global: getBuiltinModule',
    'node:dgram: *',
    'node:fs/promises: writeFile',
    'node:fs: *',
    'node:http: createServer',
    'node:net: connect',
    'some-package: *',
    'undici: undici',
  ])
})

test('comments beyond the last column are found, behind code too, and long strings and URLs are not', () => {
  assert.deepEqual(wideComments(parsed('comments.ts')), ['comments.ts:1', 'comments.ts:3', 'comments.ts:6'])
  assert.equal(commentsOf(parsed('comments.ts')).length, 5)
})

test('lines of Markdown beyond the last column are found outside of tables, links and code', () => {
  const long = 'x'.repeat(111)
  const link = `[x](./${'x'.repeat(120)})`
  const markdown = ['short', long, `| ${long} |`, link, '```', long, '```', long].join('\n')
  assert.deepEqual(wideMarkdown('a.md', markdown), ['a.md:2', 'a.md:8'])
})

test('titles are found in every form of a test', () => {
  const titles = titlesOf(parsed('titles.ts')).map(({ text }) => text)
  assert.deepEqual(titles, ['one', 'two … things', 'three', 'four', 'six', 'seven'])
})

for (const [title, problem] of [
  ['a sentence that can be false', undefined],
  ['A sentence', 'begins with a capital'],
  ['I4 A sentence', 'begins with a capital'],
  ['I4 T6 a sentence', undefined],
  ['HEAD is answered', undefined],
  ['ETag is sent', undefined],
  ['Docker pulls', undefined],
  ['Cache-Control is obeyed', undefined],
  ['a sentence.', 'ends with a full stop'],
  ['§7 a sentence', 'names a section of no document'],
  ['a sentence of RFC 9110 §5', undefined],
  ['… is a sentence', undefined],
] as const) {
  test(`the title "${title}" ${problem ?? 'is fine'}`, () => {
    assert.equal(titleProblem(title), problem)
  })
}

test('ids are found in texts and in the first cells of tables, and S3 is none', () => {
  assert.deepEqual(idsIn('I4 T6 an S3 store, SHA256, P1, x86 and R12'), ['I4', 'T6', 'P1', 'R12'])
  assert.deepEqual(definedIds('| id | x |\n| --- | --- |\n| I1 | I2 |\n| F15 | y |'), new Set(['I1', 'F15']))
})

test('a document that is nowhere is found, and one that is named by its path or its name is not', () => {
  const files = new Set(['README.md', 'docs/admin.md', 'test/x.ts'])
  const text =
    'README.md, docs/admin.md, ./admin.md, admin.md, other.md, docs/other.md, https://example.com/x.md'
  assert.deepEqual(missingDocuments('docs/x.md', text, files), [
    'docs/x.md names other.md',
    'docs/x.md names docs/other.md',
  ])
})
