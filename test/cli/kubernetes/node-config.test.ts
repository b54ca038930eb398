import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { MirrorHealth } from '../../../src/cli/kubernetes/mirror-health.ts'
import { Machines, snapshot } from '../machine.ts'
import { type Ran, runCommandLine } from '../rig.ts'
import { startCommand } from './running.ts'

let machines: Machines

before(async () => {
  machines = await Machines.open()
})

after(async () => {
  await machines[Symbol.asyncDispose]()
})

const MIRROR = ['--mirror', 'http://mirror:8080']
const CERTS = '/etc/containerd/certs.d'
const READS_CERTS = `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "${CERTS}"\n`
const BLOCK = '[host."http://mirror:8080"]\n  capabilities = ["pull", "resolve"]\n'

async function nodeConfig(root: string, ...flags: readonly string[]): Promise<Ran> {
  return await runCommandLine(['node-config', '--root', root, ...flags])
}

test('a node with containerd gets a file for each registry, and gives all of it back', async () => {
  const root = await machines.make({ '/etc/containerd/config.toml': READS_CERTS })
  const untouched = await snapshot(root)
  const { code } = await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io,docker.io', '--all', '--once')
  assert.equal(code, 0)
  const files = await snapshot(root)
  assert.equal(
    files[`${CERTS}/docker.io/hosts.toml`],
    `# >>> entrepot node-config, which made this directory\nserver = "https://registry-1.docker.io"\n\n${BLOCK}# <<< entrepot node-config\n`,
  )
  assert.equal(
    files[`${CERTS}/_default/hosts.toml`],
    `# >>> entrepot node-config, which made this directory\n${BLOCK}# <<< entrepot node-config\n`,
  )
  assert.ok(files[`${CERTS}/ghcr.io/hosts.toml`]?.includes(BLOCK))
  assert.equal((await nodeConfig(root, '--remove')).code, 0)
  assert.deepEqual(await snapshot(root), untouched)
  assert.deepEqual(await readdir(join(root, CERTS)), [])
})

test('the mirror goes before the hosts of others, and registries that are no longer wanted are given back', async () => {
  const own =
    'server = "https://ghcr.io"\n\n# our own\n[host."https://own.example"]\n  capabilities = ["pull"]\n'
  const root = await machines.make({
    '/etc/containerd/config.toml': READS_CERTS,
    [`${CERTS}/ghcr.io/hosts.toml`]: own,
  })
  await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--once')
  const text = await readFile(join(root, CERTS, 'ghcr.io/hosts.toml'), 'utf8')
  const block = `# >>> entrepot node-config\n${BLOCK}# <<< entrepot node-config\n`
  assert.equal(text, own.replace('# our own', `${block}# our own`))
  await nodeConfig(root, ...MIRROR, '--registries', 'quay.io', '--once')
  assert.equal(await readFile(join(root, CERTS, 'ghcr.io/hosts.toml'), 'utf8'), own)
  assert.deepEqual(await readdir(join(root, CERTS)), ['ghcr.io', 'quay.io'])
})

const RUNTIMES: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
  [
    'containerd 2.x with its own directory',
    {
      '/etc/containerd/config.toml': `version = 3\n[plugins."io.containerd.cri.v1.images".registry]\n  config_path = "/opt/certs:${CERTS}"\n`,
    },
    '/opt/certs/ghcr.io/hosts.toml',
  ],
  [
    'containerd whose imported file names the directory',
    {
      '/etc/containerd/config.toml': 'version = 3\nimports = ["conf.d/*.toml"]\n',
      '/etc/containerd/conf.d/a.toml': `version = 3\n[plugins."io.containerd.cri.v1.images".registry]\n  config_path = "/opt/imported"\n`,
    },
    '/opt/imported/ghcr.io/hosts.toml',
  ],
  [
    'k3s',
    {
      '/var/lib/rancher/k3s/agent/etc/containerd/config.toml': `version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"\n`,
    },
    '/var/lib/rancher/k3s/agent/etc/containerd/certs.d/ghcr.io/hosts.toml',
  ],
  [
    'RKE2',
    {
      '/var/lib/rancher/rke2/agent/etc/containerd/config.toml': `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/var/lib/rancher/rke2/agent/etc/containerd/certs.d"\n`,
    },
    '/var/lib/rancher/rke2/agent/etc/containerd/certs.d/ghcr.io/hosts.toml',
  ],
  [
    'MicroK8s',
    {
      '/var/snap/microk8s/current/args/containerd.toml':
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "${SNAP_DATA}/args/certs.d"\n',
    },
    '/var/snap/microk8s/current/args/certs.d/ghcr.io/hosts.toml',
  ],
  ['Docker', { '/etc/docker/daemon.json': '{}' }, '/etc/docker/certs.d/ghcr.io/hosts.toml'],
  ['CRI-O', { '/etc/crio/crio.conf': '' }, '/etc/containers/registries.conf.d/60-entrepot-node-config.conf'],
]

for (const [title, files, path] of RUNTIMES) {
  test(`the mirror of ${title} is in ${path}`, async () => {
    const root = await machines.make(files)
    const untouched = await snapshot(root)
    const { code, stdout } = await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--once')
    assert.equal(code, 0, stdout)
    const text = (await snapshot(root))[path]
    assert.match(text ?? '', /mirror:8080/, stdout)
    await nodeConfig(root, '--remove')
    assert.deepEqual(await snapshot(root), untouched)
  })
}

test('a registry with another block for CRI-O is left alone and named', async () => {
  const root = await machines.make({
    '/etc/crio/crio.conf': '',
    '/etc/containers/registries.conf': '[[registry]]\nprefix = "ghcr.io"\nlocation = "ghcr.io"\n',
  })
  const { code, stdout } = await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io,quay.io', '--once')
  assert.equal(code, 1)
  assert.match(stdout, /registries\.conf has another block for ghcr\.io/)
  const text = (await snapshot(root))['/etc/containers/registries.conf.d/60-entrepot-node-config.conf'] ?? ''
  assert.ok(text.includes('"quay.io"') && !text.includes('"ghcr.io"'), text)
})

test('a containerd whose configuration cannot be parsed is reported and left as it is', async () => {
  const root = await machines.make({
    '/etc/containerd/config.toml': 'version = [',
    '/etc/docker/daemon.json': '{}',
  })
  const { code, stdout } = await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--once')
  assert.equal(code, 1)
  assert.match(stdout, /containerd: \/etc\/containerd\/config\.toml is not valid TOML/)
  assert.deepEqual(Object.keys(await snapshot(root)).toSorted(), [
    '/etc/containerd/config.toml',
    '/etc/docker/certs.d/ghcr.io/hosts.toml',
    '/etc/docker/daemon.json',
  ])
})

test('a root without any runtime is reported, so that a mount that is missing does not go unseen', async () => {
  const root = await machines.make({ '/etc/hostname': 'node' })
  const { code, stdout } = await nodeConfig(root, ...MIRROR, '--once')
  assert.equal(code, 1)
  assert.match(stdout, /no runtime is found below .*: mount the node's root there, or name one/)
  assert.equal((await nodeConfig(root, '--remove')).code, 0)
})

test('a containerd that does not read certs.d is named, unless its version does by default', async () => {
  const root = await machines.make({ '/etc/containerd/config.toml': 'version = 2\n' })
  const { stdout } = await nodeConfig(root, ...MIRROR, '--once')
  assert.match(stdout, /sets no config_path: containerd before 2\.2 reads .* only after config_path = /)
  const newer = await nodeConfig(root, ...MIRROR, '--once', '--containerd-version', 'containerd://2.4.2')
  assert.ok(!newer.stdout.includes('config_path'), newer.stdout)
})

test('--write-import makes containerd read certs.d by a drop-in that it imports, and it is given back', async () => {
  const root = await machines.make({
    '/etc/containerd/config.toml': 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
  })
  const untouched = await snapshot(root)
  await nodeConfig(root, ...MIRROR, '--once', '--write-import')
  const dropIn = (await snapshot(root))['/etc/containerd/conf.d/50-entrepot.toml']
  assert.match(dropIn ?? '', /config_path = "\/etc\/containerd\/certs\.d"/)
  const again = await nodeConfig(root, ...MIRROR, '--once', '--write-import')
  assert.equal(again.stdout, '')
  await nodeConfig(root, ...MIRROR, '--once')
  assert.equal((await snapshot(root))['/etc/containerd/conf.d/50-entrepot.toml'], undefined)
  await nodeConfig(root, '--remove')
  assert.deepEqual(await snapshot(root), untouched)
})

test('the login and the client certificate go into files that only their owner reads, and into no log', async () => {
  const own = '[host."https://own.example"]\n'
  const root = await machines.make({
    '/etc/containerd/config.toml': READS_CERTS,
    [`${CERTS}/quay.io/hosts.toml`]: own,
    '/password': 'a robot token\n',
  })
  const names = ['--registries', 'ghcr.io,quay.io', '--once']
  const certificate = ['--client-cert', '/etc/ssl/node.pem', '--client-key', '/etc/ssl/node.key']
  const login = ['--username', 'node', '--password-file']
  const credentials = [...certificate, ...login, join(root, 'password')]
  const { code, stdout } = await nodeConfig(root, ...MIRROR, ...names, ...credentials)
  assert.equal(code, 0)
  const basic = Buffer.from('node:a robot token').toString('base64')
  assert.ok(!stdout.includes(basic) && !stdout.includes('robot'))
  for (const name of ['ghcr.io', 'quay.io']) {
    const path = join(root, CERTS, name, 'hosts.toml')
    const text = await readFile(path, 'utf8')
    assert.ok(text.includes(`Authorization = "Basic ${basic}"`), name)
    assert.ok(text.includes('client = [["/etc/ssl/node.pem", "/etc/ssl/node.key"]]'), name)
    assert.equal((await stat(path)).mode & 0o777, 0o600, name)
  }
  const without = await nodeConfig(root, ...MIRROR, ...names, ...login, join(root, 'nothing'))
  assert.equal(without.code, 1)
  assert.match(without.stdout, /the file has no password/)
  await nodeConfig(root, '--remove')
  assert.equal(await readFile(join(root, CERTS, 'quay.io/hosts.toml'), 'utf8'), own)
})

test('a registry that gets a file of its own keeps the hosts that somebody else wants for all', async () => {
  const others = 'ca = "/theirs.pem"\n\n[host."https://own.example"]\n  capabilities = ["pull"]\n'
  const root = await machines.make({
    '/etc/containerd/config.toml': READS_CERTS,
    [`${CERTS}/_default/hosts.toml`]: others,
  })
  await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--once')
  const path = join(root, CERTS, 'ghcr.io/hosts.toml')
  const made = `# >>> entrepot node-config, which made this directory\nserver = "https://ghcr.io"\n\n`
  const kept = others.replace('[host', `${BLOCK}[host`)
  assert.equal(await readFile(path, 'utf8'), `${made}${kept}# <<< entrepot node-config\n`)
  await writeFile(join(root, CERTS, '_default/hosts.toml'), others.replace('own.', 'another.'))
  await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--all', '--once')
  assert.ok((await readFile(path, 'utf8')).includes('https://another.example'))
  await nodeConfig(root, '--remove')
  assert.deepEqual(await readdir(join(root, CERTS)), ['_default'])
  assert.equal(
    await readFile(join(root, CERTS, '_default/hosts.toml'), 'utf8'),
    others.replace('own.', 'another.'),
  )
})

test('a certs.d that leads out of the root is refused, and a link within it is followed', async () => {
  const outside = await machines.make({ '/file': 'untouched' })
  const root = await machines.make({ '/etc/containerd/config.toml': READS_CERTS })
  await symlink(join('../../../..', outside), join(root, CERTS))
  const { code, stdout } = await nodeConfig(root, ...MIRROR, '--once')
  assert.equal(code, 1)
  assert.match(stdout, /link/)
  assert.deepEqual(await snapshot(outside), { '/file': 'untouched' })
  const good = await machines.make({ '/etc/containerd/config.toml': READS_CERTS, '/srv/certs/keep': '' })
  await symlink('/srv/certs', join(good, CERTS))
  assert.equal((await nodeConfig(good, ...MIRROR, '--once')).code, 0)
  assert.deepEqual(await readdir(join(good, 'srv/certs')), ['_default', 'keep'])
})

test('a directory that takes no files is reported with the reason', async () => {
  const root = await machines.make({
    '/etc/containerd/config.toml': READS_CERTS,
    [`${CERTS}/ghcr.io`]: 'a file',
  })
  const { code, stdout } = await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--once')
  assert.equal(code, 1)
  assert.match(stdout, /ENOTDIR.*ghcr\.io\/hosts\.toml/)
})

test('marks that somebody has edited are reported, and nothing is written there', async () => {
  const path = `${CERTS}/ghcr.io/hosts.toml`
  const edited = `# >>> entrepot node-config\n${BLOCK}`
  const root = await machines.make({ '/etc/containerd/config.toml': READS_CERTS, [path]: edited })
  const { code, stdout } = await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--once')
  assert.equal(code, 1)
  assert.match(stdout, /the marks of node-config in it were edited/)
  assert.equal((await snapshot(root))[path], edited)
})

test('the registries come from the upstream file if none is named', async () => {
  const root = await machines.make({
    '/etc/containerd/config.toml': READS_CERTS,
    '/upstreams.yaml': 'upstreams: [{namespace: reg.example.com, host: reg.example.com}]\n',
  })
  const file = join(root, 'upstreams.yaml')
  await nodeConfig(root, ...MIRROR, '--upstream-config-file', file, '--once')
  assert.deepEqual(await readdir(join(root, CERTS)), ['reg.example.com'])
})

async function serve(status: () => number): Promise<Server> {
  const server = createServer((_, response) => response.writeHead(status()).end())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

test('the loop takes a mirror out that does not answer, puts it back, and leaves nothing behind', async () => {
  let status = 200
  const server = await serve(() => status)
  const root = await machines.make({ '/etc/containerd/config.toml': READS_CERTS })
  const { port } = server.address() as AddressInfo
  const times = ['--interval', '1s', '--unhealthy-after', '0s', '--healthy-after', '0s', '--remove-on-exit']
  const mirror = `http://127.0.0.1:${port}`
  const loop = startCommand(['node-config', '--root', root, '--mirror', mirror, ...times])
  await loop.line('written')
  status = 503
  await loop.line('the mirror does not answer and is taken out: pulls go directly')
  await loop.line('removed')
  assert.deepEqual(await readdir(join(root, CERTS)), [])
  status = 401
  await loop.line('the mirror answers again and is put back')
  await loop.line('written')
  loop.signals.send('SIGTERM')
  assert.equal(await loop.code, 0)
  assert.deepEqual(await readdir(join(root, CERTS)), [])
  server.close()
})

test('a mirror is down after the limit without any answer, and up again after the other with answers alone', () => {
  const health = new MirrorHealth({ unhealthyAfterMs: 60, healthyAfterMs: 10 }, 0)
  const seen = [
    [false, 59, true],
    [true, 60, true],
    [false, 119, true],
    [false, 120, false],
    [true, 130, false],
    [false, 135, false],
    [true, 140, false],
    [true, 149, false],
    [true, 150, true],
  ] as const
  for (const [isAnswering, atMs, isUp] of seen)
    assert.equal(health.note(isAnswering, atMs), isUp, `at ${atMs}`)
})

const REFUSED: readonly (readonly [readonly string[], string])[] = [
  [[], '--mirror: is missing'],
  [['--mirror', 'ftp://x'], '--mirror: is not the address of a mirror'],
  [[...MIRROR, '--once', '--remove'], '--once: contradicts --remove'],
  [[...MIRROR, '--once', '--remove-on-exit'], '--remove-on-exit: is for the loop'],
  [[...MIRROR, '--registries', 'a/b'], '--registries: has something that is no registry'],
  [[...MIRROR, '--runtime', 'rocket'], '--runtime: is not known (containerd, k3s'],
  [[...MIRROR, '--interval', '0s'], '--interval: is shorter than 1s'],
  [[...MIRROR, '--ca', 'ca.pem'], '--ca: is not an absolute path'],
  [[...MIRROR, '--upstream-config-file', '/nowhere'], '--upstream-config-file: cannot be read: ENOENT'],
  [[...MIRROR, 'now'], 'now is an unexpected argument'],
]

for (const [flags, sentence] of REFUSED) {
  test(`node-config ${flags.join(' ')} is refused: ${sentence}`, async () => {
    const { code, stderr } = await runCommandLine(['node-config', ...flags])
    assert.equal(code, 2)
    assert.ok(stderr.includes(sentence), stderr)
  })
}

test('a foreign editor that renames a new file into place between two looks is not overwritten', async () => {
  const root = await machines.make({ '/etc/containerd/config.toml': READS_CERTS })
  const path = join(root, CERTS, 'ghcr.io/hosts.toml')
  await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--once')
  const theirs = '[host."https://theirs.example"]\n  capabilities = ["pull"]\n'
  await mkdir(dirname(path), { recursive: true })
  await writeFile(`${path}.new`, theirs)
  await rename(`${path}.new`, path)
  await nodeConfig(root, ...MIRROR, '--registries', 'ghcr.io', '--once')
  assert.ok((await readFile(path, 'utf8')).endsWith(`# <<< entrepot node-config\n${theirs}`))
  await nodeConfig(root, '--remove')
  assert.equal(await readFile(path, 'utf8'), theirs)
})
