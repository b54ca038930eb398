import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { array, asyncProperty, boolean, assert as check, constantFrom, nat, record } from 'fast-check'
import { RootedFiles } from '../../../src/cli/clients/host-files.ts'
import { parseMirrorUrl } from '../../../src/cli/clients/mirror-url.ts'
import { type NodeWish, writeNode } from '../../../src/cli/kubernetes/node-writer.ts'
import type { Namespace } from '../../../src/oci/namespace.ts'

const CERTS = 'etc/containerd/certs.d'

/** Files of somebody else, with all that makes it hard to put something before their first host. */
const FOREIGN = [
  'server = "https://ghcr.io"',
  'server = "https://ghcr.io"\n\n# our own\n[host."https://own.example"]\n  capabilities = ["pull"]\n',
  '[host."https://own.example"]\n  ca = [\n    "/a",\n    "/b",\n  ]\n[host."https://second.example"]\n',
  'server = "x"\r\n[host."https://crlf.example"]\r\n  capabilities = ["pull"]\r\n',
  'note = """\n[host."https://not.a.table"]\n"""\n[host."https://own.example"]\n',
  'this is not TOML [',
  '',
  '\n\n',
  '# only a comment',
  '[host."http://one:5000"]\n  capabilities = ["pull"]\n',
  '\xff\xfe not UTF-8',
] as const

const NAMES = ['ghcr.io', 'quay.io', 'docker.io', '_default', 'reg.lan:5000'] as const
const SETS: readonly (readonly string[])[] = [
  ['ghcr.io'],
  ['ghcr.io', 'quay.io'],
  ['docker.io', 'reg.lan:5000'],
  [],
]

const step = record({
  mirror: constantFrom('http://one:5000', 'http://two:5000'),
  names: constantFrom(...SETS),
  isForAll: boolean(),
  isWanted: boolean(),
  /** Operations until the power fails; far more than any run has for no failure. */
  cut: nat({ max: 40 }),
})

const foreign = array(
  record({
    name: constantFrom(...NAMES),
    text: nat({ max: FOREIGN.length - 1 }),
    file: constantFrom('hosts.toml', 'ca.crt'),
  }),
  { maxLength: 4 },
)

test('after any sequence of writes, power cuts and removals the files of others are byte-identical, and nothing else is left', async () => {
  await check(
    asyncProperty(foreign, array(step, { minLength: 1, maxLength: 6 }), async (others, steps) => {
      const root = await mkdtemp(join(tmpdir(), 'entrepot-node-'))
      try {
        const before = new Map<string, Buffer>()
        for (const { name, text, file } of others) {
          const path = join(root, CERTS, name, file)
          const bytes = Buffer.from(FOREIGN[text] ?? '', 'latin1')
          await mkdir(dirname(path), { recursive: true })
          await writeFile(path, bytes)
          before.set(path, bytes)
        }
        for (const { cut, isWanted, ...wish } of steps) {
          await runUntil(root, wishOf(wish), isWanted, cut)
          await holdsForeign(before, root)
        }
        await runUntil(
          root,
          wishOf({ mirror: 'http://one:5000', names: [], isForAll: true }),
          false,
          Infinity,
        )
        const left = (await readdir(root, { recursive: true, withFileTypes: true }))
          .filter(entry => entry.isFile())
          .map(entry => join(entry.parentPath, entry.name))
        assert.deepEqual(left.toSorted(), [...before.keys()].toSorted())
        for (const [path, bytes] of before) assert.deepEqual(await readFile(path), bytes)
        const directories: readonly string[] = await readdir(join(root, CERTS)).catch(() => [])
        assert.deepEqual(
          directories.toSorted(),
          [...new Set([...before.keys()].map(path => dirname(path).split('/').at(-1) ?? ''))].toSorted(),
        )
      } finally {
        await rm(root, { recursive: true })
      }
    }),
    { numRuns: 20 },
  )
})

class PowerCut extends Error {}

/** Runs node-config until some operation, before which everything ends, and what it had begun stays. */
async function runUntil(root: string, wish: NodeWish, isWanted: boolean, cut: number): Promise<void> {
  let left = cut
  const files = new RootedFiles(root, '/', () => {
    left -= 1
    if (left < 0) throw new PowerCut('the power fails')
  })
  try {
    // Leftovers of earlier cuts are old by now.
    await writeNode(files, wish, isWanted ? 'in' : 'gone', Date.now() + 3_600_000)
  } catch (error) {
    if (!(error instanceof PowerCut)) throw error
  }
}

/** Whatever is in a file besides our block is what was there before. */
async function holdsForeign(before: ReadonlyMap<string, Buffer>, root: string): Promise<void> {
  for (const [path, bytes] of before) {
    const text = (await readFile(path)).toString('latin1')
    const rest = text.replace(
      /\n# >>> entrepot node-config, after a line break.*?\n# <<< entrepot node-config\n/s,
      '',
    )
    const without = rest.replace(/# >>> entrepot node-config\n.*?# <<< entrepot node-config\n/s, '')
    assert.equal(without, bytes.toString('latin1'), path.slice(root.length))
  }
}

function wishOf({
  mirror,
  names,
  isForAll,
}: {
  mirror: string
  names: readonly string[]
  isForAll: boolean
}): NodeWish {
  const url = parseMirrorUrl(mirror)
  if (url === undefined) throw new Error('not a mirror')
  return {
    mirror: url,
    caFile: undefined,
    registries: names as readonly Namespace[],
    isForAll,
    runtimes: ['containerd'],
    containerdVersion: '2.4.2',
    writesImport: false,
  }
}

test('two node-configs at the same time leave one block each file, and foreign bytes as they were', async () => {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-node-'))
  try {
    const path = join(root, CERTS, 'ghcr.io/hosts.toml')
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, FOREIGN[1])
    const wish = wishOf({ mirror: 'http://one:5000', names: ['ghcr.io', 'quay.io'], isForAll: true })
    const runs = Array.from(
      { length: 8 },
      async () => await writeNode(new RootedFiles(root, '/'), wish, 'in', 0),
    )
    const results = await Promise.all(runs)
    assert.deepEqual(
      results.flatMap(({ problems }) => problems),
      [],
    )
    const texts = await Promise.all(
      ['ghcr.io', 'quay.io', '_default'].map(
        async name => await readFile(join(root, CERTS, name, 'hosts.toml'), 'utf8'),
      ),
    )
    for (const text of texts) assert.equal(text.match(/>>> entrepot node-config/g)?.length, 1)
    await Promise.all(
      Array.from({ length: 4 }, async () => await writeNode(new RootedFiles(root, '/'), wish, 'gone', 0)),
    )
    assert.equal(await readFile(path, 'utf8'), FOREIGN[1])
    assert.deepEqual(await readdir(join(root, CERTS)), ['ghcr.io'])
  } finally {
    await rm(root, { recursive: true })
  }
})
