import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { createMetrics } from '../src/observe/metrics.ts'
import { runCommandLine } from './cli/rig.ts'
import { chartReadme } from './packaging/rig/chart-readme.ts'
import { certificatePath } from './support/upstream.ts'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const DOCUMENTS = ['*.md', 'bench/results/*.md', 'docs/*.md', 'examples/*/*.md', 'helm/*/*.md']
  .flatMap(pattern => globSync(pattern, { cwd: ROOT }))
  .toSorted()

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

/** The anchor by which pages of repositories link to a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} -]/gu, '')
    .trim()
    .replaceAll(' ', '-')
}

for (const path of DOCUMENTS) {
  test(`every link of ${path} within the repository leads somewhere`, () => {
    for (const [, link = ''] of read(path).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [file = '', anchor] = link.split('#')
      const target = file === '' ? path : join(dirname(path), file)
      const found = statSync(join(ROOT, target), { throwIfNoEntry: false })
      assert.ok(found !== undefined, `${link} leads nowhere`)
      if (anchor === undefined) continue
      const headings = [...read(target).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchorOf(heading))
      assert.ok(headings.includes(anchor), `${link} has no such heading`)
    }
  })
}

/** Every command line of every shell block; lines that a backslash continues are one. */
function commandsOf(path: string): readonly string[] {
  const blocks = [...read(path).matchAll(/```sh\n(.*?)```/gs)].map(([, block = '']) => block)
  return blocks.flatMap(block => block.replaceAll('\\\n', ' ').split('\n')).filter(line => line !== '')
}

/** Commands that other suites run, and commands that need a cluster, a network or an installed service. */
const ELSEWHERE = [
  /^npm (?:ci|pack|install|test)\b/,
  /^npm run (?:torture|simulate) -- /,
  /^docker (?:build|run|compose|pull|push|exec|image)\b/,
  /^kubectl \S/,
  /^(?:export REGISTRY|cosign verify|kind load)\b/,
  /^helm (?:install|test|upgrade|package|push)\b/,
  /^promtool check rules helm\/entrepot\/files\/alerts\.yaml$/,
  /^systemctl \S/,
  /^install -/,
  /^curl -(?:fs|s)/,
  /^printf '%s' /,
]

test('the README of the chart is made from its values', () => {
  assert.equal(read('helm/entrepot/README.md'), chartReadme())
})

test('the image that the documents build is the one that the chart asks for', () => {
  const { version, appVersion } = parse(read('helm/entrepot/Chart.yaml')) as Record<string, string>
  const { image } = parse(read('helm/entrepot/values.yaml')) as {
    image: { registry: string; repository: string; tag: string }
  }
  assert.deepEqual(image.registry + image.tag, '')
  assert.equal(version, appVersion)
  for (const path of [
    'README.md',
    'docs/deploying.md',
    'docs/kubernetes.md',
    'examples/kubernetes/README.md',
  ]) {
    const built = [
      ...read(path).matchAll(/docker build [^`\n]*-t (?:"?\$REGISTRY\/)?([a-z]+:[^\s"`,]+)/g),
    ].map(([, name]) => name)
    assert.ok(built.length > 0, path)
    for (const name of built) assert.equal(name, `${image.repository}:${appVersion}`, path)
  }
})

const commands = DOCUMENTS.flatMap(path => commandsOf(path).map(command => ({ path, command })))

for (const { path, command } of commands) {
  test(`${path}: ${command} works, or is run by another suite`, async () => {
    const [isBench, flags = ''] = /^npm run bench(?: -- (.+))?$/.exec(command) ?? []
    if (isBench !== undefined) {
      assert.deepEqual(listBench(flags.split(' ').filter(word => word !== '')), { code: 0, stderr: '' })
      return
    }
    const [, ours] = /^(?:entrepot|npm start --)(?: (.*))?$/.exec(command) ?? []
    if (ours === undefined) {
      const isKnown = command === 'entrepot' || ELSEWHERE.some(pattern => pattern.test(command))
      assert.ok(isKnown, 'this command is run nowhere')
      return
    }
    const words = ours.split(' ')
    const root = await mkdtemp(join(tmpdir(), 'entrepot-documents-'))
    try {
      const ran = await runCommandLine(harmless(words, root))
      assert.notEqual(ran.code, 2, ran.stderr)
      if (words[0] !== 'doctor') assert.equal(ran.code, 0, ran.stderr)
    } finally {
      await rm(root, { recursive: true })
    }
  })
}

/** Has the benchmark list what it would measure with some flags, which it parses as usual. */
function listBench(flags: readonly string[]): { readonly code: number | null; readonly stderr: string } {
  const argv = [join(ROOT, 'bench/main.ts'), ...flags, '--list']
  const { status, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' })
  return { code: status, stderr }
}

/** Files of the tests in the place of the reader's own. */
const CERTIFICATES: ReadonlyMap<string, string> = new Map([
  ['--tls-cert', 'server.pem'],
  ['--tls-key', 'server.key.pem'],
  ['--tls-client-ca', 'ca.pem'],
])

/**
 * The same command with no effect: over an empty directory, or as `check`. Files of the reader are left out.
 */
function harmless(words: readonly string[], root: string): readonly string[] {
  const [name = ''] = words
  if (name === 'doctor' || (name === 'setup' && words.includes('--write'))) return [...words, '--root', root]
  if (name === 'setup') return words
  const file = words.indexOf('--upstream-config-file')
  const rest = (file === -1 ? words : words.toSpliced(file, 2)).map((word, index, all) => {
    const certificate = CERTIFICATES.get(all[index - 1] ?? '')
    return certificate === undefined ? word : certificatePath(certificate)
  })
  return name === 'check' ? rest : ['check', ...rest]
}

test('docs/operations.md has a row for every metric with its labels, and for no other', async () => {
  const rows = [...read('docs/operations.md').matchAll(/^\| `(entrepot_\w+)` \|([^|]*)\|/gm)]
  const documented = rows.map(([, name = '', labels = '']) =>
    `${name} ${labels.replaceAll(/[`,]/g, '').trim()}`.trim(),
  )
  const metrics = createMetrics()
  const known = Object.values(metrics)
    .filter(metric => typeof metric === 'object')
    .map(metric => metric as unknown as { readonly name: string; readonly labelNames: readonly string[] })
    .map(({ name, labelNames }) => `${name} ${labelNames.join(' ')}`.trim())
  assert.deepEqual(documented.toSorted(), known.toSorted())
})

const CLIENTS = readdirSync(join(ROOT, 'examples/clients'))

for (const client of CLIENTS) {
  test(`setup writes examples/clients/${client}`, async () => {
    const directory = join(ROOT, 'examples/clients', client)
    const entries = await readdir(directory, { recursive: true, withFileTypes: true })
    const files = entries
      .filter(entry => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name))
    const { stdout } = await runCommandLine(['setup', client, '--mirror', 'http://mirror.example.com:8080'])
    assert.equal(stdout.match(/^# \S+$/gm)?.length, files.length)
    for (const file of files) {
      const path = file.slice(directory.length + (client === 'kind' ? 1 : 0))
      assert.ok(stdout.includes(`# ${path}\n${await readFile(file, 'utf8')}`), path)
    }
  })
}

for (const folder of ['compose/etc', 'systemd', 'npm']) {
  test(`the daemon reads the upstream file of examples/${folder}; only files of the reader's own are missing`, async () => {
    const file = join(ROOT, 'examples', folder, 'upstreams.yaml')
    const ran = await runCommandLine(['check', '--upstream-config-file', file])
    if (folder === 'npm')
      assert.match(ran.stderr, /^entrepot: \S+:\d+: \[0\]\.password_file names a file that does not exist/)
    else assert.equal(ran.code, 0, ran.stderr)
  })
}

test('the daemon accepts the command line of the compose project, over the volumes that it mounts', async () => {
  const { services, volumes } = parse(read('examples/compose/compose.yaml')) as {
    services: { entrepot: { command: readonly string[]; volumes: readonly string[]; read_only: boolean } }
    volumes: object
  }
  const { command, volumes: mounts, read_only: isReadOnly } = services.entrepot
  assert.ok(isReadOnly)
  const sources = new Map(mounts.map(mount => [mount.split(':')[1] ?? '', mount.split(':')[0] ?? '']))
  assert.deepEqual(Object.keys(volumes), [sources.get('/var/lib/entrepot')])
  // A file that is mounted by itself stays the old one when an editor saves by a rename.
  const source = join(ROOT, 'examples/compose', sources.get('/etc/entrepot') ?? '')
  assert.ok(statSync(source).isDirectory())
  const words = command.map(word => word.replace('/etc/entrepot', source))
  const ran = await runCommandLine(['check', ...words])
  assert.equal(ran.code, 0, ran.stderr)
})

test('the daemon accepts the environment of examples/s3', async () => {
  const lines = read('examples/s3/entrepot.env')
    .split('\n')
    .filter(line => /^[A-Z]/.test(line))
  const env = Object.fromEntries(lines.map(line => line.split('=') as [string, string]))
  const ran = await runCommandLine(['check', 's3'], { env })
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stdout, /^bucket: +entrepot /m)
})
