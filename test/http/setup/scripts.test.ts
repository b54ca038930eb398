import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { PlanClient, Wish } from '../../../src/cli/clients/client.ts'
import { planContainerd, readCriRegistry } from '../../../src/cli/clients/containerd.ts'
import { planCrio, planPodman } from '../../../src/cli/clients/containers-image.ts'
import { planDocker } from '../../../src/cli/clients/docker.ts'
import { RootedFiles } from '../../../src/cli/clients/host-files.ts'
import { parseMirrorUrl } from '../../../src/cli/clients/mirror-url.ts'
import { parseToml } from '../../../src/cli/clients/toml.ts'
import { setupScript } from '../../../src/http/setup/script.ts'
import { must } from '../../support/registries.ts'

const URL_OF_MIRROR = 'http://mirror.example.com:8080'
const SHELLS = [['/bin/sh'], ['/bin/dash'], ['/bin/busybox', 'sh'], ['/bin/bash', '--posix']].filter(
  ([program = '']) => existsSync(program),
)
const CLIENTS: ReadonlyMap<string, PlanClient> = new Map<string, PlanClient>([
  ['containerd', planContainerd],
  ['docker', planDocker],
  ['podman', planPodman],
  ['crio', planCrio],
])
const FIXTURES = fileURLToPath(new URL('../../cli/fixtures/', import.meta.url))

let scratch: string

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'entrepot-setup-'))
})

after(async () => {
  await rm(scratch, { recursive: true })
})

interface Ran {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a script as `curl … | sh -s -- <words>` does, with `root` as the directory to use as /. */
function runScript(
  client: string,
  root: string,
  words: readonly string[] = [],
  [program = '', ...flags]: readonly string[] = must(SHELLS[0]),
): Ran {
  const input = must(setupScript(client, URL_OF_MIRROR))
  return spawnSync(program, [...flags, '-s', '--', '--root', root, ...words], { input, encoding: 'utf8' })
}

/** A new root directory with these files. */
async function rootWith(files: Readonly<Record<string, string>>): Promise<string> {
  const root = await mkdtemp(join(scratch, 'root-'))
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  return root
}

/** All files below a root, by path. */
async function filesOf(root: string): Promise<Readonly<Record<string, string>>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
  const texts = await Promise.all(
    files.map(async file => [file.slice(root.length), await readFile(file, 'utf8')] as const),
  )
  return Object.fromEntries(texts.toSorted(([one], [other]) => (one < other ? -1 : 1)))
}

/** Asserts that `entrepot setup` has nothing to add to what a script wrote. */
async function assertConfigured(client: string, root: string, caFile?: string): Promise<void> {
  const wish: Wish = { mirror: must(parseMirrorUrl(URL_OF_MIRROR)), registries: 'all', caFile }
  const { files } = await must(CLIENTS.get(client))(wish, new RootedFiles(root, '/'))
  assert.ok(files.length > 0)
  for (const { path, before: is, after: wanted, refusal } of files) {
    assert.equal(refusal, undefined, path)
    assert.equal(is, wanted, path)
  }
}

for (const client of CLIENTS.keys()) {
  test(`the script for ${client} is one that sh parses, in every shell of this machine`, () => {
    const input = must(setupScript(client, URL_OF_MIRROR))
    for (const [program = '', ...flags] of SHELLS) {
      const ran = spawnSync(program, [...flags, '-n'], { input, encoding: 'utf8' })
      assert.deepEqual([ran.status, ran.stderr], [0, ''], program)
    }
  })

  for (const shell of SHELLS) {
    test(`in ${shell.join(' ')}, on a bare machine, ${client} is configured as entrepot setup would, and again changes nothing`, async () => {
      const root = await rootWith({})
      const first = runScript(client, root, [], shell)
      assert.equal(first.status, 0, first.stderr)
      assert.match(first.stdout, /^\+\+\+ \/etc\//m)
      await assertConfigured(client, root)
      const once = await filesOf(root)
      const second = runScript(client, root, [], shell)
      assert.equal(second.status, 0, second.stderr)
      assert.doesNotMatch(second.stdout, /written/)
      assert.deepEqual(await filesOf(root), once)
      const undone = runScript(client, root, ['--remove'], shell)
      assert.equal(undone.status, 0, undone.stderr)
      assert.deepEqual(await filesOf(root), {})
    })
  }

  test(`--dry-run shows what the script for ${client} would write, and writes nothing`, async () => {
    const root = await rootWith({})
    const ran = runScript(client, root, ['--dry-run'])
    assert.equal(ran.status, 0, ran.stderr)
    assert.match(ran.stdout, /mirror\.example\.com:8080/)
    assert.deepEqual(await filesOf(root), {})
  })

  test(`half of the script for ${client} does nothing`, async () => {
    const root = await rootWith({})
    const whole = must(setupScript(client, URL_OF_MIRROR))
    for (const part of [0.3, 0.6, 0.9]) {
      const input = whole.slice(0, Math.floor(whole.length * part))
      spawnSync('/bin/sh', ['-s', '--', '--root', root], { input, encoding: 'utf8' })
      assert.deepEqual(await filesOf(root), {})
    }
  })
}

const CONFIG = 'etc/containerd/config.toml'
const GRPC = '[plugins."io.containerd.grpc.v1.cri"'
const COMPLETED: readonly (readonly [string, string])[] = [
  ['an empty config_path', `version = 2\n${GRPC}.registry]\n  config_path = ""\n`],
  ['a table without it', `version = 2\n${GRPC}.registry]\n\n${GRPC}.x]\n  a = 1\n`],
  ['no such table', 'version = 2\nroot = "/data"\n'],
  ['no such table and no end of its last line', 'version = 3\nroot = "/data"'],
  [
    'the newer plugin',
    "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n    config_path = ''\n",
  ],
  ['a config_path', `version = 2\n${GRPC}.registry]\n  config_path = "/srv/certs:/other"\n`],
  ['the CRI plugin off', 'disabled_plugins = ["cri"]\n'],
]

for (const [what, text] of COMPLETED) {
  test(`a configuration of containerd with ${what} is completed, and restored by --remove`, async () => {
    const root = await rootWith({ [CONFIG]: text })
    const ran = runScript('containerd', root)
    assert.equal(ran.status, 0, ran.stderr)
    const config = must(parseToml(await readFile(join(root, CONFIG), 'utf8')))
    const [path = '/etc/containerd/certs.d'] = readCriRegistry(config)?.paths ?? []
    assert.ok(existsSync(join(root, path, '_default/hosts.toml')))
    if (path.startsWith('/etc/')) await assertConfigured('containerd', root)
    assert.equal(runScript('containerd', root, ['--remove']).status, 0)
    const { [`/${CONFIG}`]: restored, ...others } = await filesOf(root)
    assert.deepEqual(parseToml(must(restored)), parseToml(text))
    assert.deepEqual(others, {})
  })
}

for (const name of ['containerd-1.6.toml', 'containerd-2.4.toml']) {
  test(`the file that containerd prints (${name}) is completed as entrepot setup would, and restored`, async () => {
    const root = await rootWith({ [CONFIG]: '' })
    await cp(join(FIXTURES, name), join(root, CONFIG))
    const before = await readFile(join(root, CONFIG), 'utf8')
    const ran = runScript('containerd', root)
    assert.equal(ran.status, 0, ran.stderr)
    await assertConfigured('containerd', root)
    assert.equal(runScript('containerd', root, ['--remove']).status, 0)
    assert.deepEqual(parseToml(await readFile(join(root, CONFIG), 'utf8')), parseToml(before))
  })
}

const DAEMON = 'etc/docker/daemon.json'
for (const text of [
  '{}',
  ' \n',
  '{"log-level": "info"}',
  '{\n    "log-level": "info",\n    "bip": "10.0.0.1/24"\n}\n',
]) {
  test(`daemon.json with ${JSON.stringify(text)} is completed, and restored by --remove`, async () => {
    const root = await rootWith({ [DAEMON]: text })
    const ran = runScript('docker', root)
    assert.equal(ran.status, 0, ran.stderr)
    await assertConfigured('docker', root)
    assert.equal(runScript('docker', root, ['--remove']).status, 0)
    const restored = (await filesOf(root))[`/${DAEMON}`] ?? '{}'
    assert.deepEqual(JSON.parse(restored), JSON.parse(text.trim() === '' ? '{}' : text))
  })
}

const FOREIGN: readonly (readonly [string, string, Readonly<Record<string, string>>, RegExp])[] = [
  [
    'docker',
    'other mirrors',
    { [DAEMON]: '{"registry-mirrors": ["https://other"]}' },
    /has registry-mirrors already/,
  ],
  ['docker', 'no JSON object', { [DAEMON]: 'log-level: info' }, /is not a JSON object/],
  [
    'containerd',
    'mirrors of the older form',
    { [CONFIG]: `version = 2\n${GRPC}.registry.mirrors."docker.io"]\n  endpoint = ["https://other"]\n` },
    /older form/,
  ],
  ['containerd', 'a format that is not known', { [CONFIG]: 'root = "/data"\n' }, /version/],
  [
    'containerd',
    'hosts of another mirror',
    { 'etc/containerd/certs.d/_default/hosts.toml': '[host."https://other"]\n' },
    /names other hosts/,
  ],
  [
    'podman',
    'another block for a registry',
    { 'etc/containers/registries.conf': '[[registry]]\nlocation = "quay.io"\n' },
    /another block for quay\.io/,
  ],
  [
    'crio',
    'another file under our name',
    { 'etc/containers/registries.conf.d/50-entrepot.conf': '# mine\n' },
    /not from this script/,
  ],
]

for (const [client, what, files, expected] of FOREIGN) {
  test(`${client} with ${what} is left alone, with the reason and the difference`, async () => {
    const root = await rootWith(files)
    const before = await filesOf(root)
    const ran = runScript(client, root)
    assert.equal(ran.status, 1)
    assert.match(ran.stderr, expected)
    assert.match(ran.stderr, /nothing was written/)
    assert.deepEqual(await filesOf(root), before)
    assert.equal(runScript(client, root, ['--remove']).status, 0)
    assert.deepEqual(await filesOf(root), before)
  })
}

test('a symbolic link is not followed', async () => {
  const root = await rootWith({ elsewhere: 'version = 2\n' })
  await mkdir(join(root, 'etc/containerd'), { recursive: true })
  await symlink('../../elsewhere', join(root, CONFIG))
  const ran = runScript('containerd', root)
  assert.equal(ran.status, 1)
  assert.match(ran.stderr, /is a symbolic link/)
  assert.equal(await readFile(join(root, 'elsewhere'), 'utf8'), 'version = 2\n')
})

test('--ca names the certificate of the mirror in hosts.toml', async () => {
  const root = await rootWith({})
  const ran = runScript('containerd', root, [
    '--ca',
    '/etc/ssl/mirror.pem',
    '--mirror',
    'https://mirror.example.com',
  ])
  assert.equal(ran.status, 0, ran.stderr)
  const text = await readFile(join(root, 'etc/containerd/certs.d/_default/hosts.toml'), 'utf8')
  assert.match(text, /\[host\."https:\/\/mirror\.example\.com"\]/)
  assert.match(text, /ca = "\/etc\/ssl\/mirror\.pem"/)
})

const WRONG: readonly (readonly [readonly string[], RegExp])[] = [
  [['--mirror', 'mirror:8080'], /is not the address of a mirror/],
  [['--mirror', 'http://mirror/$(id)'], /without a path/],
  [['--mirror', "http://a'b"], /without a path/],
  [['--mirror'], /needs a value/],
  [['--ca', 'relative.pem'], /not an absolute path/],
  [['--ca', '/a"b'], /no path here can have/],
  [['--frobnicate'], /--frobnicate is not known/],
]

for (const [words, expected] of WRONG) {
  test(`${words.join(' ')} is refused, and nothing is written`, async () => {
    const root = await rootWith({})
    const ran = runScript('containerd', root, words)
    assert.equal(ran.status, 1)
    assert.match(ran.stderr, expected)
    assert.deepEqual(await filesOf(root), {})
  })
}
