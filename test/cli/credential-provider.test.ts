import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Ran, runCommandLine } from './rig.ts'

const API = 'credentialprovider.kubelet.k8s.io/v1'
const HOST = 'mirror.example.com:8443'

async function provide(request: unknown, ...argv: readonly string[]): Promise<Ran> {
  const stdin = typeof request === 'string' ? request : JSON.stringify(request)
  return await runCommandLine(['credential-provider', ...argv], { stdin })
}

function requestFor(image: string, more: object = {}): object {
  return { apiVersion: API, kind: 'CredentialProviderRequest', image, ...more }
}

function authOf({ stdout }: Ran): unknown {
  const response = JSON.parse(stdout) as Record<string, unknown>
  assert.deepEqual(
    [response['apiVersion'], response['kind'], response['cacheKeyType']],
    [API, 'CredentialProviderResponse', 'Registry'],
  )
  return response['auth']
}

for (const [image, host] of [
  [`${HOST}/team/app:1`, HOST],
  ['nginx', 'docker.io'],
  ['docker.io/library/nginx:1', 'docker.io'],
] as const) {
  test(`the token of the pod is given for ${image}, under the name of its registry`, async () => {
    const request = requestFor(image, { serviceAccountToken: 'a.b.c' })
    const ran = await provide(request, '--for', HOST, '--for', 'docker.io')
    assert.equal(ran.code, 0, ran.stderr)
    assert.deepEqual(authOf(ran), { [host]: { username: 'kubernetes', password: 'a.b.c' } })
  })
}

for (const image of [
  'evil.example/app',
  'mirror.example.com/app',
  `${HOST}.evil.example/app`,
  '::',
  'x'.repeat(9999),
]) {
  test(`no credentials are given for ${image.slice(0, 40)}`, async () => {
    const ran = await provide(requestFor(image, { serviceAccountToken: 'a.b.c' }), '--for', HOST)
    assert.equal(ran.code, 0, ran.stderr)
    assert.deepEqual(authOf(ran), {})
    assert.ok(!ran.stdout.includes('a.b.c'))
  })
}

test('without a token the password of the file is given, and without both it is an error', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-provider-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const file = join(directory, 'password')
  await writeFile(file, 'entrepot_secret\n')
  const request = requestFor(`${HOST}/app`)
  const login = ['--username', 'node', '--password-file']
  assert.deepEqual(authOf(await provide(request, '--for', HOST, ...login, file)), {
    [HOST]: { username: 'node', password: 'entrepot_secret' },
  })
  const missing = await provide(request, '--for', HOST, ...login, `${file}.no`)
  assert.deepEqual([missing.code, missing.stdout], [1, ''])
  const none = await provide(request, '--for', HOST)
  assert.deepEqual([none.code, none.stdout], [1, ''])
  assert.match(none.stderr, /no token of a service account; set tokenAttributes/)
})

for (const [what, request] of [
  ['nothing', ''],
  ['no JSON', '{'],
  ['another version', { ...requestFor(`${HOST}/app`), apiVersion: 'credentialprovider.kubelet.k8s.io/v9' }],
  ['no image', { apiVersion: API, kind: 'CredentialProviderRequest' }],
  ['two megabytes', ' '.repeat(2 * 1024 * 1024)],
] as const) {
  test(`${what} on standard input is an error without an answer`, async () => {
    const ran = await provide(request, '--for', HOST)
    assert.deepEqual([ran.code, ran.stdout], [1, ''])
    assert.match(ran.stderr, /standard input has no CredentialProviderRequest/)
  })
}

test('a provider that may answer for no registry, or has a user without a password, does not start', async () => {
  assert.match((await provide('{}')).stderr, /--for: is missing/)
  assert.match((await provide('{}', '--for', HOST, '--username', 'x')).stderr, /--password-file: is missing/)
  assert.equal((await provide('{}')).code, 2)
})
