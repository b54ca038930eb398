import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseTrialImage } from '../../src/cli/doctor/mirror-check.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { type Ran, runCommandLine } from './rig.ts'

let scratch: string
let upstream: FakeUpstream
let mirror: TestMirror
let url: string
let admin: string

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'entrepot-doctor-'))
  upstream = await startUpstream()
  const config = upstream.putBlob('{}')
  const digest = upstream.putManifest({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: config, size: 2 },
    layers: [],
  })
  upstream.tag('library/alpine', 'latest', digest)
  mirror = await startMirror({ upstream: upstream.host })
  url = `http://${mirror.daemon.addresses.client}`
  admin = `http://${mirror.daemon.addresses.admin}`
})

after(async () => {
  await mirror[Symbol.asyncDispose]()
  await upstream[Symbol.asyncDispose]()
  await rm(scratch, { recursive: true })
})

/** Runs the doctor over a machine with these files; `%` in a text stands for the mirror's host and port. */
async function examine(files: Readonly<Record<string, string>>, ...words: readonly string[]): Promise<Ran> {
  const root = await mkdtemp(join(scratch, 'root-'))
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text.replaceAll('%', url.slice('http://'.length)))
  }
  return await runCommandLine(['doctor', '--root', root, ...words])
}

const CERTS = '/etc/containerd/certs.d'
const CONTAINERD = {
  '/etc/containerd/config.toml': `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "${CERTS}"\n`,
  [`${CERTS}/_default/hosts.toml`]: '[host."http://%"]\ncapabilities = ["pull", "resolve"]\n',
}

test('containerd with a working mirror for every registry has no problem', async () => {
  const ran = await examine(CONTAINERD, '--admin', admin)
  assert.equal(ran.code, 0, ran.stdout)
  assert.match(ran.stdout, /ok +docker\.io, ghcr\.io, quay\.io, registry\.k8s\.io: through http:\/\/127/)
  assert.match(ran.stdout, /ok +Every other registry: through http:\/\/127/)
  assert.match(ran.stdout, /docker\.io\/library\/alpine:latest came through it \(.+\), sha256:[0-9a-f]{64}\./)
  assert.match(ran.stdout, /containerd on this machine has not pulled through the mirror/)
  assert.match(ran.stdout, /Nothing is wrong\.\n$/)
})

test('the time of the last pull is reported for a client that the mirror has seen', async () => {
  await mirror.get('/v2/library/alpine/manifests/latest', { 'user-agent': 'containerd/1.7.0' })
  const ran = await examine(CONTAINERD, '--admin', admin)
  assert.match(
    ran.stdout,
    /containerd on this machine last pulled through the mirror .+ ago \(containerd\/1\.7\.0\)\./,
  )
})

test('the doctor of a mirror with two workers finds its own request and the last pull each time', async () => {
  await using shared = await startMirror({ upstream: upstream.host, config: { workers: 2 } })
  const [client, listener] = [shared.daemon.addresses.client, shared.daemon.addresses.admin]
  const files = { ...CONTAINERD, [`${CERTS}/_default/hosts.toml`]: `[host."http://${client}"]\n` }
  for (let count = 0; count < 20; count += 1) {
    const headers = { 'user-agent': `containerd/${count}`, connection: 'close' }
    await shared.get('/v2/library/alpine/manifests/latest', headers)
    const ran = await examine(files, '--admin', `http://${listener}`)
    assert.match(ran.stdout, new RegExp(`last pulled through the mirror .+ ago \\(containerd/${count}\\)\\.`))
    assert.match(ran.stdout, /Nothing is wrong\.\n$/)
  }
})

test('an admin listener that does not answer or requires a token is skipped with a note', async () => {
  const gone = await examine(CONTAINERD, '--admin', 'http://127.0.0.1:9')
  assert.match(gone.stdout, /Skipped: the admin listener .* nothing listens there/)
  assert.equal(gone.code, 0)
  await using guarded = await answering((_, response) => response.writeHead(401).end())
  const refused = await examine(CONTAINERD, '--admin', guarded.url)
  assert.match(refused.stdout, /Skipped: .* it requires a token, see --admin-token-file/)
})

test('the token of the admin listener is read from its file', async () => {
  let shown: string | undefined
  await using guarded = await answering((request, response) => {
    shown = request.headers.authorization
    response.end('{"clients": []}')
  })
  const file = join(scratch, 'token')
  await writeFile(file, 'a-long-enough-token\n')
  const ran = await examine(CONTAINERD, '--admin', guarded.url, '--admin-token-file', file)
  assert.equal(shown, 'Bearer a-long-enough-token')
  assert.match(ran.stdout, /it belongs to another mirror/)
})

/** One machine's files, and the sentence that must be said of them as wrong. */
const WRONG: readonly (readonly [string, Readonly<Record<string, string>>, RegExp])[] = [
  [
    'hosts.toml files that Kubernetes does not read',
    { ...CONTAINERD, '/etc/containerd/config.toml': 'version = 2\n' },
    /does not name \/etc\/containerd\/certs\.d as config_path: pulls of Kubernetes ignore/,
  ],
  [
    'both forms of mirrors in one config.toml',
    {
      ...CONTAINERD,
      '/etc/containerd/config.toml': `${CONTAINERD['/etc/containerd/config.toml']}[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nendpoint = ["http://%"]\n`,
    },
    /has both config_path and registry\.mirrors/,
  ],
  [
    'a mirror that may not resolve tags',
    { ...CONTAINERD, [`${CERTS}/quay.io/hosts.toml`]: '[host."http://%"]\ncapabilities = ["pull"]\n' },
    /quay\.io\/hosts\.toml does not give http:\/\/[\d.:]+ the capability "resolve"/,
  ],
  [
    'a hosts.toml that is not valid TOML',
    { ...CONTAINERD, [`${CERTS}/quay.io/hosts.toml`]: 'server = https://quay.io\n' },
    /quay\.io\/hosts\.toml is not valid TOML: every pull of these images fails/,
  ],
  [
    'a Podman mirror without the registry in its path',
    {
      '/etc/containers/registries.conf.d/a.conf':
        '[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "%"\ninsecure = true\n',
    },
    /sends quay\.io to [\d.:]+, which the mirror takes for Docker Hub\. The location must be [\d.:]+\/quay\.io\./,
  ],
  [
    'a Podman mirror with a port in its path',
    {
      '/etc/containers/registries.conf.d/a.conf':
        '[[registry]]\nlocation = "reg.lan:5555"\n[[registry.mirror]]\nlocation = "%/reg.lan:5555"\ninsecure = true\n',
    },
    /cannot parse: every pull of reg\.lan:5555 fails\. The location must be [\d.:]+\/reg\.lan_5555\./,
  ],
  [
    'a Docker mirror with a path',
    { '/etc/docker/daemon.json': '{"registry-mirrors": ["http://%/v2"]}' },
    /a host without a path, and does not start with anything else/,
  ],
  [
    'a daemon.json that is not valid JSON',
    { '/etc/docker/daemon.json': '{,}' },
    /is not valid JSON: dockerd does not start/,
  ],
  [
    'a registries.yaml that is not valid YAML',
    { '/etc/rancher/k3s/registries.yaml': 'a: [' },
    /is not valid YAML: k3s does not start/,
  ],
  [
    'a buildkitd.toml that is not valid TOML',
    { '/etc/buildkit/buildkitd.toml': '= 1' },
    /buildkitd does not start/,
  ],
  ['no mirror anywhere', {}, /No client here uses a mirror/],
  [
    'a mirror that is not there',
    { '/etc/docker/daemon.json': '{"registry-mirrors": ["http://127.0.0.1:9"]}' },
    /http:\/\/127\.0\.0\.1:9 cannot be reached: nothing listens there/,
  ],
  [
    'https where the mirror speaks http',
    { '/etc/docker/daemon.json': '{"registry-mirrors": ["https://%"]}' },
    /cannot be reached: .*(?:TLS|closes the connection)/,
  ],
]

for (const [what, files, expected] of WRONG) {
  test(`the doctor reports a problem and exits with 1: ${what}`, async () => {
    const ran = await examine(files)
    assert.match(ran.stdout, new RegExp(`^ {2}WRONG {2}.*${expected.source}`, 'm'))
    assert.match(ran.stdout, /Wrong: [1-9]\d*\.\n$/)
    assert.equal(ran.code, 1)
  })
}

test('registries that a client pulls directly are listed for each client', async () => {
  const ran = await examine({
    '/etc/docker/daemon.json': '{"registry-mirrors": ["http://%"]}',
    '/etc/buildkit/buildkitd.toml': '[registry."ghcr.io"]\nmirrors = ["%"]\n[registry."%"]\nhttp = true\n',
    '/etc/rancher/k3s/registries.yaml': 'mirrors:\n  "*":\n    endpoint: ["http://%"]\n',
    '/usr/bin/podman': '',
  })
  const [, docker = '', containers = '', buildkit = '', k3s = ''] =
    /^docker\n(.*?)^podman, cri-o\n(.*?)^buildkitd\n(.*?)^k3s\n(.*?)^mirror\n/ms.exec(ran.stdout) ?? []
  assert.match(
    docker,
    /ok +docker\.io: through .*note +ghcr\.io, quay\.io, .*every other registry: directly, past the mirror/s,
  )
  assert.match(containers, /note +No registry goes through a mirror/)
  assert.match(buildkit, /ok +ghcr\.io: through http:/)
  assert.match(k3s, /ok +Every other registry: through http:/)
  assert.equal(ran.code, 0, ran.stdout)
})

test("a note says that Docker's hosts.toml files need the containerd image store, and if it is switched off", async () => {
  const hosts = { '/etc/docker/certs.d/ghcr.io/hosts.toml': '[host."http://%"]\n' }
  assert.match(
    (await examine(hosts)).stdout,
    /note +The hosts\.toml files .* take effect only with the containerd image store: Docker 29/,
  )
  const off = await examine({
    ...hosts,
    '/etc/docker/daemon.json': '{"features": {"containerd-snapshotter": false}}',
  })
  assert.match(off.stdout, /switches off/)
  assert.match(off.stdout, /No registry goes through a mirror/)
  const on = await examine({
    ...hosts,
    '/etc/docker/daemon.json': '{"features": {"containerd-snapshotter": true}}',
  })
  assert.match(on.stdout, /ok +ghcr\.io: through/)
  assert.doesNotMatch(on.stdout, /containerd image store/)
})

test('an unreadable file is reported, and everything else is examined', async () => {
  const ran = await examine({ [`${CERTS}/ghcr.io/hosts.toml/not-a-file`]: '', ...CONTAINERD })
  assert.match(ran.stdout, /note +\S+\/ghcr\.io\/hosts\.toml cannot be read by this user/)
  assert.match(ran.stdout, /ok +Every other registry: through/)
  assert.equal(ran.code, 0, ran.stdout)
})

test('a registries.conf of the user is reported, because rootless Podman reads that one', async () => {
  const root = await mkdtemp(join(scratch, 'root-'))
  await mkdir(join(root, '/home/me/.config/containers'), { recursive: true })
  await writeFile(join(root, '/home/me/.config/containers/registries.conf'), '')
  const ran = await runCommandLine(['doctor', '--root', root, '--mirror', url], { env: { HOME: '/home/me' } })
  assert.match(ran.stdout, /note +\/home\/me\/\.config\/containers\/registries\.conf exists: rootless Podman/)
})

test('an image that is missing and one that the policy refuses are reported with the reason', async () => {
  const absent = await examine({}, '--mirror', url, '--image', 'library/absent')
  assert.match(
    absent.stdout,
    /answers 404 for docker\.io\/library\/absent:latest, because the registry does not have it/,
  )
  const refused = await examine({}, '--mirror', url, '--image', 'registry.internal/x/y')
  assert.match(
    refused.stdout,
    /answers 403 for registry\.internal\/x\/y:latest, because its policy or the registry refuses it: /,
  )
})

test('another registry in place of Entrepot, and changed bytes, are reported', async () => {
  await using other = await answering((request, response) => {
    const isLying = request.headers['user-agent']?.startsWith('entrepot-doctor/') === true
    assert.ok(isLying)
    response.end(request.url === '/v2/' ? '{}' : 'changed')
  })
  const ran = await examine({}, '--mirror', other.url)
  assert.match(
    ran.stdout,
    /is nothing, but its bytes are sha256:[0-9a-f]{64}: something on the way changes them/,
  )
  await using refusing = await answering((_, response) => response.writeHead(401).end())
  assert.match(
    (await examine({}, '--mirror', refusing.url)).stdout,
    /answers 401 on \/v2\/, where a mirror answers 200/,
  )
})

test('wrong arguments are refused with exit code 2, and nothing is examined', async () => {
  const ran = await runCommandLine(['doctor', 'x', '--mirror', 'm', '--image', 'A B', '--ca', '/none'])
  assert.equal(ran.code, 2)
  assert.equal(ran.stdout, '')
  assert.match(
    ran.stderr,
    /x is an unexpected argument.*--mirror: is not an address.*--image: is not the name of an image.*--ca: names a file that cannot be read/s,
  )
})

const HEX = 'a'.repeat(64)
const NAMES: readonly (readonly [string, string | undefined])[] = [
  ['alpine', 'docker.io library/alpine latest'],
  ['alpine:3', 'docker.io library/alpine 3'],
  ['me/x', 'docker.io me/x latest'],
  ['localhost:5000/x', 'localhost:5000 x latest'],
  ['ghcr.io/a/b/c:v1.2', 'ghcr.io a/b/c v1.2'],
  [`quay.io/a/b:t@sha256:${HEX}`, `quay.io a/b sha256:${HEX}`],
  ['', undefined],
  ['a b', undefined],
  ['A/B', undefined],
  ['ghcr.io/', undefined],
]

for (const [text, expected] of NAMES) {
  test(`the image name "${text}" is ${expected === undefined ? 'invalid' : `read as ${expected}`}`, () => {
    const name = parseTrialImage(text)
    assert.equal(
      name === undefined ? undefined : `${name.registry} ${name.repository} ${name.reference}`,
      expected,
    )
  })
}

/** A server that answers in its own way. */
async function answering(listener: RequestListener): Promise<AsyncDisposable & { readonly url: string }> {
  const server: Server = createServer(listener)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
