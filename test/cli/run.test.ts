import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Config } from '../../src/config/config.ts'
import { runCommandLine } from './rig.ts'

const ROOT: Pick<Config, 'store'> = { store: { kind: 'filesystem', root: '/tmp/oci-mirror' } }
const S3_FLAGS = '--host http://minio:9000 --access-key a --secret-key s --region r --bucket b'
const S3_ENV = {
  S3_HOST: '',
  S3_REGION: 'us-east-1',
  S3_BUCKET: 'oci-registry',
  S3_ACCESS_KEY: 'a',
  S3_SECRET_KEY: 's',
}

/** Command lines and environments of oci-registry's documentation, chart and scripts, and our own. */
const GOOD: readonly (readonly [string, Readonly<Record<string, string>>, Partial<Config>])[] = [
  ['', {}, { store: { kind: 'filesystem', root: '/srv/data' } }],
  ['serve', {}, { store: { kind: 'filesystem', root: '/srv/data' } }],
  ['--listen 0.0.0.0:8080 filesystem --root /tmp/oci-mirror', {}, ROOT],
  ['--listen=0.0.0.0:8080 filesystem --root=/tmp/oci-mirror', {}, ROOT],
  ['filesystem --root /tmp/oci-mirror', {}, ROOT],
  ['serve filesystem --root /tmp/oci-mirror', {}, ROOT],
  ['--port 8080 filesystem --root /tmp/oci-mirror', {}, ROOT],
  [
    '--listen unix:/run/m.sock filesystem --root /tmp/oci-mirror',
    {},
    { listen: { kind: 'unix', path: '/run/m.sock' } },
  ],
  ['filesystem', { FILESYSTEM_ROOT: '/data' }, { store: { kind: 'filesystem', root: '/data' } }],
  [
    'filesystem',
    { FILESYSTEM_ROOT: '/data', DEFAULT_UPSTREAM_NAMESPACE: 'ghcr.io', LISTEN: '[::]:8080' },
    {
      defaultNamespace: 'ghcr.io' as Config['defaultNamespace'],
      listen: { kind: 'tcp', host: '::', port: 8080 },
    },
  ],
  ['--check-cache-digest filesystem --root /tmp/oci-mirror', {}, { checkCacheDigest: true, ...ROOT }],
  [
    '--no-check-cache-digest filesystem --root /tmp/oci-mirror',
    { CHECK_CACHE_DIGEST: '1' },
    { checkCacheDigest: false },
  ],
  [
    '--blob-chunk-read-timeout 30s --blob-chunk-write-timeout 1m --default-namespace quay.io --default-upstream-namespace docker.io filesystem --root /tmp/oci-mirror',
    {},
    { defaultNamespace: 'quay.io' as Config['defaultNamespace'], ...ROOT },
  ],
  [`s3 ${S3_FLAGS}`, {}, {}],
  [`--listen 0.0.0.0:80 s3 ${S3_FLAGS}`, {}, { listen: { kind: 'tcp', host: '0.0.0.0', port: 80 } }],
  ['s3', S3_ENV, {}],
]

for (const [line, env, expected] of GOOD) {
  test(`entrepot ${line} with ${JSON.stringify(env)} starts a daemon`, async () => {
    const words = line.split(' ').filter(word => word !== '')
    const ran = await runCommandLine(words, { env })
    assert.equal(ran.code, 0, ran.stderr)
    for (const [key, value] of Object.entries(expected)) {
      assert.deepEqual(ran.config?.[key as keyof Config], value)
    }
    assert.equal(ran.config?.store.kind, words.includes('s3') ? 's3' : 'filesystem')
  })
}

const BAD: readonly (readonly [string, string])[] = [
  ['--lisen x', '--lisen: is not a known flag (did you mean --listen?)\n'],
  ['--frobnicate', '--frobnicate: is not a known flag (entrepot --help lists the flags)\n'],
  ['-x', '-x: is not a known flag (entrepot --help lists the flags)\n'],
  ['chek', 'command line: chek is not a command (did you mean check?)\n'],
  ['filesystem s3', 'command line: s3 is not a command (entrepot --help lists the commands)\n'],
  ['x=S3cr3t', 'command line: has an unknown command (entrepot --help lists the commands)\n'],
  ['--log-level info --log-level debug', '--log-level: is given more than once (keep one)\n'],
  [
    '--check-cache-digest=banana',
    '--check-cache-digest: is not true or false: "banana" (write true or false)\n',
  ],
  ['--log-level', '--log-level: needs a value (debug, info, warn, error or silent)\n'],
  ['--log-level --port 80', '--log-level: needs a value (debug, info, warn, error or silent)\n'],
  [
    '--port x --namespaces y',
    '2 problems in the configuration, nothing was started:\n' +
      '  --port: is not a port: "x" (a number from 0 to 65535)\n' +
      '  --namespaces: is not a policy: "y" (public, configured or any)\n',
  ],
]

for (const command of [[], ['serve'], ['check']]) {
  for (const [line, expected] of BAD) {
    const words = [...command, ...line.split(' ')]
    test(`entrepot ${words.join(' ')} starts nothing, gives the reason and exits with 2`, async () => {
      const ran = await runCommandLine(words)
      assert.deepEqual(ran, { code: 2, stdout: '', stderr: `entrepot: ${expected}`, config: undefined })
    })
  }
}

test('the help on standard output names every sub-command', async () => {
  for (const argv of [['--help'], ['-h'], ['check', '--help'], ['--lisen', '--help']]) {
    const ran = await runCommandLine(argv)
    assert.equal(ran.code, 0)
    assert.equal(ran.stderr, '')
    assert.match(ran.stdout, /entrepot check \[filesystem \| s3\]/)
    assert.match(ran.stdout, /--upstream-config-file .*\[UPSTREAM_CONFIG_FILE\]/)
    assert.equal(ran.config, undefined)
  }
})

test('the version is that of the package', async () => {
  const ran = await runCommandLine(['--version'])
  assert.match(ran.stdout, /^\d+\.\d+\.\d+\n$/)
  assert.equal(ran.code, 0)
})
