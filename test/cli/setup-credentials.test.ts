import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { parse as parseToml } from 'smol-toml'
import { parse as parseYaml } from 'yaml'
import { readCertificate } from '../support/upstream.ts'
import { type Ran, runCommandLine } from './rig.ts'

const MIRROR = 'mirror.example.com:8443'
const PASSWORD = 'entrepot_canary_password'
const BASIC = Buffer.from(`ci:${PASSWORD}`).toString('base64')

interface Machine {
  readonly root: string
  readonly setup: (client: string, ...flags: readonly string[]) => Promise<Ran>
  readonly read: (path: string) => Promise<string>
}

/** A machine with a CA and a file of a password, in a directory that is removed after the test. */
async function machine(t: TestContext): Promise<Machine> {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-setup-'))
  t.after(async () => await rm(root, { recursive: true }))
  await mkdir(join(root, 'etc/ssl'), { recursive: true })
  await writeFile(join(root, 'etc/ssl/ca.pem'), readCertificate('ca.pem'))
  await writeFile(join(root, 'password'), `${PASSWORD}\n`)
  return {
    root,
    setup: async (client, ...flags) =>
      await runCommandLine([
        'setup',
        client,
        '--mirror',
        `https://${MIRROR}`,
        '--ca',
        '/etc/ssl/ca.pem',
        '--username',
        'ci',
        '--password-file',
        '/password',
        '--root',
        root,
        '--write',
        ...flags,
      ]),
    read: async path => await readFile(join(root, path), 'utf8'),
  }
}

async function modeOf(root: string, path: string): Promise<number> {
  return (await stat(join(root, path))).mode & 0o777
}

for (const [client, path] of [
  ['containerd', 'etc/containerd/certs.d/_default/hosts.toml'],
  ['docker', 'etc/docker/certs.d/_default/hosts.toml'],
] as const) {
  test(`${client} sends the login as a header and trusts the CA, and nobody else can read the file`, async t => {
    const { root, setup, read } = await machine(t)
    const certificate = ['--client-cert', '/etc/ssl/c.pem', '--client-key', '/etc/ssl/c.key']
    const ran = await setup(client, ...certificate)
    assert.equal(ran.code, 0, ran.stderr)
    assert.deepEqual(JSON.parse(JSON.stringify(parseToml(await read(path)))), {
      host: {
        [`https://${MIRROR}`]: {
          capabilities: ['pull', 'resolve'],
          ca: '/etc/ssl/ca.pem',
          client: [['/etc/ssl/c.pem', '/etc/ssl/c.key']],
          header: { Authorization: `Basic ${BASIC}` },
        },
      },
    })
    assert.equal(await modeOf(root, path), 0o600)
    assert.ok(!`${ran.stdout}${ran.stderr}`.includes(BASIC), 'the login is not shown')
    const again = await setup(client, ...certificate)
    assert.match(again.stdout, /^unchanged: .*hosts\.toml$/m)
  })
}

test('docker keeps the CA where it looks for it, and Docker Hub leaves registry-mirrors when there is a login', async t => {
  const { root, setup, read } = await machine(t)
  const ran = await setup('docker')
  assert.equal(await read(`etc/docker/certs.d/${MIRROR}/ca.crt`), readCertificate('ca.pem'))
  await assert.rejects(stat(join(root, 'etc/docker/daemon.json')), { code: 'ENOENT' })
  assert.match(ran.stderr, /Docker sends this login from version 29 on/)
})

for (const [client, path] of [
  ['podman', 'root/.config/containers/auth.json'],
  ['crio', 'etc/crio/entrepot-auth.json'],
] as const) {
  test(`${client} gets an entry in ${path} beside those that are there, and the CA`, async t => {
    const { root, setup, read } = await machine(t)
    await mkdir(join(root, path, '..'), { recursive: true })
    await writeFile(join(root, path), '{"auths":{"ghcr.io":{"auth":"eDp5"}},"credHelpers":{"a":"b"}}')
    const ran = await setup(client)
    assert.equal(ran.code, 0, ran.stderr)
    assert.deepEqual(JSON.parse(await read(path)), {
      auths: { 'ghcr.io': { auth: 'eDp5' }, [MIRROR]: { auth: BASIC } },
      credHelpers: { a: 'b' },
    })
    assert.equal(await modeOf(root, path), 0o600)
    assert.ok(!`${ran.stdout}${ran.stderr}`.includes(BASIC), 'the login is not shown')
    assert.equal(await read(`etc/containers/certs.d/${MIRROR}/ca.crt`), readCertificate('ca.pem'))
    if (client === 'crio')
      assert.match(
        await read('etc/crio/crio.conf.d/50-entrepot.conf'),
        /global_auth_file = "\/etc\/crio\/entre/,
      )
  })
}

test('k3s gets the login and the CA in registries.yaml, which only its owner can read', async t => {
  const { root, setup, read } = await machine(t)
  const path = 'etc/rancher/k3s/registries.yaml'
  assert.equal((await setup('k3s')).code, 0)
  const { configs } = parseYaml(await read(path)) as { readonly configs: unknown }
  assert.deepEqual(configs, {
    [MIRROR]: { tls: { ca_file: '/etc/ssl/ca.pem' }, auth: { username: 'ci', password: PASSWORD } },
  })
  assert.equal(await modeOf(root, path), 0o600)
})

test('buildkit gets no login, and setup says that it sends none', async t => {
  const { setup, read } = await machine(t)
  const ran = await setup('buildkit')
  assert.match(ran.stderr, /BuildKit sends no login to a mirror/)
  assert.ok(!(await read('etc/buildkit/buildkitd.toml')).includes(BASIC))
})

test('a file that is not an auth.json is not written over', async t => {
  const { root, setup, read } = await machine(t)
  await mkdir(join(root, 'root/.config/containers'), { recursive: true })
  await writeFile(join(root, 'root/.config/containers/auth.json'), 'mine')
  const ran = await setup('podman')
  assert.equal(ran.code, 1)
  assert.match(ran.stderr, /auth\.json is unchanged: it is not an auth\.json/)
  assert.equal(await read('root/.config/containers/auth.json'), 'mine')
})

for (const [flags, expected] of [
  [['--username', 'ci'], /--username: and --password-file belong together/],
  [
    ['--username', 'ci', '--password-file', '/no/such/file'],
    /--password-file: names a file without a password/,
  ],
  [['--client-cert', '/a.pem'], /--client-cert: and --client-key are two absolute paths/],
  [['--client-cert', 'a.pem', '--client-key', 'a.key'], /--client-cert: and --client-key are two absolute/],
] as const) {
  test(`setup with ${flags.join(' ')} is refused`, async () => {
    const ran = await runCommandLine(['setup', 'docker', '--mirror', `https://${MIRROR}`, ...flags])
    assert.equal(ran.code, 2)
    assert.match(ran.stderr, expected)
  })
}

test('doctor sends the login to the mirror, and a wrong one is a problem that says so', async t => {
  const { root } = await machine(t)
  const server = createServer((request, response) => {
    const isRight = request.headers.authorization === `Basic ${BASIC}`
    const { url = '' } = request
    const body = isRight ? '{}' : '{"errors":[{"code":"UNAUTHORIZED","message":"the password is wrong"}]}'
    const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`
    const headers = url === '/v2/' ? {} : { 'Docker-Content-Digest': digest, 'Cache-Status': 'entrepot; hit' }
    response.writeHead(isRight ? 200 : 401, headers).end(body)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const argv = ['doctor', '--mirror', `http://127.0.0.1:${port}`, '--root', root, '--username', 'ci']
  const right = await runCommandLine([...argv, '--password-file', join(root, 'password')])
  assert.match(right.stdout, /came through it \(hit\)/)
  await writeFile(join(root, 'wrong'), 'guess')
  const wrong = await runCommandLine([...argv, '--password-file', join(root, 'wrong')])
  assert.equal(wrong.code, 1)
  assert.match(wrong.stdout, /answers 401 on \/v2\/, because it wants a login.*the password is wrong/)
})
