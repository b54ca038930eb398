import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { type Config, NO_SECTIONS } from '../../src/config/config.ts'
import { type LoadedConfig, loadConfig } from '../../src/config/load.ts'
import { ConfigError, formatOrigin, formatProblem } from '../../src/config/problem.ts'
import type { Flag } from '../../src/config/settings.ts'
import type { StoreKind } from '../../src/config/store.ts'

interface Given {
  readonly flags?: Partial<Record<Flag, string>>
  readonly env?: Readonly<Record<string, string>>
  readonly store?: StoreKind
}

async function load(given: Given, cwd = '/srv'): Promise<LoadedConfig> {
  const flags = new Map(Object.entries(given.flags ?? {}) as [Flag, string][])
  return await loadConfig({ flags, env: given.env ?? {}, store: given.store, cwd, problems: [] })
}

async function problemsOf(given: Given): Promise<readonly string[]> {
  try {
    await load(given)
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.problems.map(formatProblem)
  }
  return []
}

const HALF = { kind: 'percent', percent: 50 } as const
const NO_PROXIES = { httpProxy: undefined, httpsProxy: undefined, proxyBypass: [], trustsProxies: false }
const PROXY = { protocol: 'http:', host: 'proxy.example:3128', credentials: undefined } as const
const LISTEN = { kind: 'tcp', host: '0.0.0.0', port: 8080 } as const

test('without any setting the mirror listens on 8080, serves Docker Hub by default and keeps its cache in ./data', async () => {
  const { config, notices, settings } = await load({})
  assert.deepEqual(config, {
    listen: LISTEN,
    tls: undefined,
    auditLog: 'log',
    clientLimits: { requestsPerSecond: undefined, downloads: undefined },
    adminListen: { kind: 'tcp', host: '127.0.0.1', port: 8081 },
    adminToken: undefined,
    adminTokenFile: undefined,
    space: { maxSize: undefined, minFree: undefined, dynamicShare: 0.2, maxBlob: HALF },
    defaultNamespace: 'docker.io',
    namespaces: 'public',
    nat64Prefix: undefined,
    egress: NO_PROXIES,
    checkCacheDigest: false,
    isReadOnly: false,
    isOffline: false,
    isSingleWriter: false,
    passesThrough: false,
    provesRanges: false,
    upstreamConfigFile: undefined,
    upstreamCredentials: new Map(),
    upstreams: [],
    sections: NO_SECTIONS,
    store: { kind: 'filesystem', root: '/srv/data' },
    drainDelayMs: 0,
    drainMs: 300_000,
    workers: Math.min(availableParallelism(), 4),
    usesSendfile: true,
    traces: false,
    scrub: { intervalMs: 604_800_000, bytesPerSecond: 16 * 1024 ** 2 },
    servesSetup: true,
    logFormat: 'auto',
    logLevel: 'info',
  })
  assert.deepEqual(notices, [])
  assert.ok(settings.every(setting => setting.origin.kind === 'default'))
})

const VALUES: readonly (readonly [Given, Partial<Config>])[] = [
  [{ env: { LISTEN: 'unix:/run/e.sock' } }, { listen: { kind: 'unix', path: '/run/e.sock' } }],
  [{ flags: { listen: '[::]:8080' } }, { listen: { kind: 'tcp', host: '::', port: 8080 } }],
  [{ flags: { listen: '[::]:1' }, env: { LISTEN: 'x' } }, { listen: { kind: 'tcp', host: '::', port: 1 } }],
  [{ flags: { port: '8080' } }, { listen: LISTEN }],
  [{ flags: { port: '80' }, env: { LISTEN: '[::]:1' } }, { listen: { ...LISTEN, port: 80 } }],
  [{ env: { PORT: '80', LISTEN: '0.0.0.0:8080' } }, { listen: LISTEN }],
  [{ flags: { listen: '0.0.0.0:8081' } }, { adminListen: { kind: 'tcp', host: '127.0.0.1', port: 8082 } }],
  [{ flags: { 'admin-listen': 'off' } }, { adminListen: undefined }],
  [{ env: { ADMIN_LISTEN: 'unix:a' } }, { adminListen: { kind: 'unix', path: '/srv/a' } }],
  [
    { flags: { listen: '127.0.0.1:0', 'admin-listen': '127.0.0.1:0' } },
    { adminListen: { kind: 'tcp', host: '127.0.0.1', port: 0 } },
  ],
  [
    { env: { DEFAULT_NAMESPACE: 'Quay.io', DEFAULT_UPSTREAM_NAMESPACE: 'docker.io' } },
    { defaultNamespace: 'quay.io' as Config['defaultNamespace'] },
  ],
  [
    { flags: { 'default-upstream-namespace': 'ghcr.io' }, env: { DEFAULT_NAMESPACE: 'quay.io' } },
    { defaultNamespace: 'ghcr.io' as Config['defaultNamespace'] },
  ],
  [{ flags: { namespaces: 'any' } }, { namespaces: 'any' }],
  [{ flags: { 'nat64-prefix': '2001:db8:64::/96' } }, { nat64Prefix: '2001:db8:64::/96' }],
  [{ env: { HTTPS_PROXY: PROXY.host } }, { egress: { ...NO_PROXIES, httpsProxy: PROXY } }],
  [{ env: { https_proxy: PROXY.host } }, { egress: { ...NO_PROXIES, httpsProxy: PROXY } }],
  [
    { env: { http_proxy: PROXY.host, no_proxy: '.corp.example,10.0.0.0/8', TRUST_EGRESS_PROXY: 'true' } },
    {
      egress: {
        ...NO_PROXIES,
        httpProxy: PROXY,
        proxyBypass: ['.corp.example', '10.0.0.0/8'],
        trustsProxies: true,
      },
    },
  ],
  [
    { flags: { 'https-proxy': PROXY.host }, env: { HTTPS_PROXY: 'other:1' } },
    { egress: { ...NO_PROXIES, httpsProxy: PROXY } },
  ],
  [
    { env: { OFFLINE: 'true' }, flags: { 'prove-ranges': 'true' } },
    { isOffline: true, provesRanges: true },
  ],
  [{ env: { CHECK_CACHE_DIGEST: '1' } }, { checkCacheDigest: true }],
  [{ env: { CHECK_CACHE_DIGEST: 'TRUE' } }, { checkCacheDigest: true }],
  [{ env: { CHECK_CACHE_DIGEST: '0' } }, { checkCacheDigest: false }],
  [
    { flags: { 'check-cache-digest': 'false' }, env: { CHECK_CACHE_DIGEST: '1' } },
    { checkCacheDigest: false },
  ],
  [{ env: { CHECK_CACHE_DIGEST: '', LISTEN: '', S3_HOST: '' } }, { checkCacheDigest: false, listen: LISTEN }],
  [
    { flags: { bucket: 'b', 'max-size': '200GiB', 'evict-rate': '50' }, store: 's3' },
    {
      space: {
        maxSize: { kind: 'bytes', bytes: 200 * 1024 ** 3 },
        minFree: undefined,
        dynamicShare: 0.2,
        maxBlob: { kind: 'percent', percent: 50 },
        evictionsPerSecond: 50,
      },
    },
  ],
  [{ flags: { 'drain-timeout': '24h' } }, { drainMs: 86_400_000 }],
  [{ env: { DRAIN_TIMEOUT: '0s' } }, { drainMs: 0 }],
  [{ flags: { workers: '1' } }, { workers: 1 }],
  [{ env: { SENDFILE: 'off' } }, { usesSendfile: false }],
  [{ flags: { sendfile: 'false' }, env: { SENDFILE: '1' } }, { usesSendfile: false }],
  [{ env: { WORKERS: '64' } }, { workers: 64 }],
  [
    { flags: { 'scrub-interval': 'off', 'scrub-rate': '4MiB' } },
    { scrub: { intervalMs: undefined, bytesPerSecond: 4 * 1024 ** 2 } },
  ],
  [{ env: { SCRUB_INTERVAL: '0s' } }, { scrub: { intervalMs: undefined, bytesPerSecond: 16 * 1024 ** 2 } }],
  [{ env: { SCRUB_INTERVAL: '12h' } }, { scrub: { intervalMs: 43_200_000, bytesPerSecond: 16 * 1024 ** 2 } }],
  [
    { flags: { 'max-size': '200GiB', 'min-free': '5%', 'dynamic-share': '12.5%', 'max-blob': '20GiB' } },
    {
      space: {
        maxSize: { kind: 'bytes', bytes: 200 * 1024 ** 3 },
        minFree: { kind: 'percent', percent: 5 },
        dynamicShare: 0.125,
        maxBlob: { kind: 'bytes', bytes: 20 * 1024 ** 3 },
      },
    },
  ],
  [
    { env: { MAX_SIZE: '80 %', MIN_FREE: '0' }, store: 'filesystem' },
    {
      space: {
        maxSize: { kind: 'percent', percent: 80 },
        minFree: { kind: 'bytes', bytes: 0 },
        dynamicShare: 0.2,
        maxBlob: HALF,
      },
    },
  ],
  [{ env: { LOG_LEVEL: 'DEBUG' } }, { logLevel: 'debug' }],
  [{ env: { FILESYSTEM_ROOT: '/data' } }, { store: { kind: 'filesystem', root: '/data' } }],
  [{ flags: { root: 'x' }, store: 'filesystem' }, { store: { kind: 'filesystem', root: '/srv/x' } }],
]

for (const [given, expected] of VALUES) {
  test(`${JSON.stringify(given)} gives ${JSON.stringify(expected)}`, async () => {
    const { config } = await load(given)
    for (const [key, value] of Object.entries(expected)) {
      assert.deepEqual(config[key as keyof Config], value)
    }
  })
}

const BAD: readonly (readonly [Given, readonly string[]])[] = [
  [
    { flags: { listen: '8080' } },
    [
      '--listen: is not an address to listen on: "8080" (such as 0.0.0.0:8080, [::]:8080 or unix:/run/entrepot.sock)',
    ],
  ],
  [
    { env: { LISTEN: 'localhost' } },
    [
      'LISTEN: is not an address to listen on: "localhost" (such as 0.0.0.0:8080, [::]:8080 or unix:/run/entrepot.sock)',
    ],
  ],
  [{ flags: { listen: '0.0.0.0:80', port: '80' } }, ['--port: contradicts --listen (keep one of them)']],
  [{ flags: { port: '99999' } }, ['--port: is not a port: "99999" (a number from 0 to 65535)']],
  [{ flags: { namespaces: '' } }, ['--namespaces: needs a value (public, configured or any)']],
  [{ env: { NAMESPACES: 'all' } }, ['NAMESPACES: is not a policy: "all" (public, configured or any)']],
  [
    { flags: { listen: '127.0.0.1:9', 'admin-listen': '127.0.0.1:9' } },
    ['--admin-listen: is the address that clients connect to (--listen) (choose another, or off)'],
  ],
  [
    { env: { CHECK_CACHE_DIGEST: 'ja' } },
    ['CHECK_CACHE_DIGEST: is not true or false: "ja" (write true or false)'],
  ],
  [
    { flags: { 'drain-timeout': '300' } },
    ['--drain-timeout: is not a duration of at most 24h: "300" (such as 0s, 90s or 5m)'],
  ],
  [{ flags: { workers: '0' } }, ['--workers: is not a number from 1 to 64: "0" (such as 1, 2 or 8)']],
  [
    { flags: { 'drain-timeout': '2d' } },
    ['--drain-timeout: is not a duration of at most 24h: "2d" (such as 0s, 90s or 5m)'],
  ],
  [
    { flags: { 'scrub-interval': '59s', 'scrub-rate': '1KiB' } },
    [
      '--scrub-interval: is not a duration from 1m to 10 years: "59s" (such as 12h, 7d or off)',
      '--scrub-rate: is not a size from 64KiB to 1TiB: "1KiB" (such as 4MiB or 100MB)',
    ],
  ],
  [
    { flags: { 'max-size': '1023KiB', 'min-free': '101%', 'dynamic-share': '0.2', 'max-blob': '0%' } },
    [
      '--max-size: is not a size of at least 1MiB, or a percentage: "1023KiB" (such as 200GiB or 80%)',
      '--min-free: is not a size or a percentage: "101%" (such as 20GiB, 5% or 0%)',
      '--dynamic-share: is not a percentage: "0.2" (from 0% to 100%)',
      '--max-blob: is not a size of at least 1MiB, or a percentage: "0%" (such as 20GiB or 50%)',
    ],
  ],
  [
    { flags: { 'min-free': '1GiB' }, store: 's3', env: { S3_BUCKET: 'b' } },
    ['--min-free: belongs to the sub-command filesystem (entrepot filesystem --min-free …)'],
  ],
  [
    { flags: { 'max-size': '80%' }, store: 's3', env: { S3_BUCKET: 'b' } },
    ['--max-size: is a percentage, and a bucket has no size (such as 200GiB)'],
  ],
  [
    { flags: { 'admin-listen': '[::]:8081' } },
    [
      '--admin-listen: [::]:8081 is reachable from other machines, and anyone there could empty the cache (give --admin-token-file too, or listen on 127.0.0.1 or unix:/path)',
    ],
  ],
  [
    { flags: { 'admin-token-file': '/nowhere/token' } },
    ['--admin-token-file: names a file that cannot be read: ENOENT'],
  ],
  [
    { env: { LOG_LEVEL: 'loud' } },
    ['LOG_LEVEL: is not a log level: "loud" (debug, info, warn, error or silent)'],
  ],
  [
    { flags: { 'default-namespace': 'a/b' } },
    ['--default-namespace: is not a namespace: "a/b" (a registry as clients name it, such as docker.io)'],
  ],
  [
    { flags: { 'blob-chunk-read-timeout': '30' } },
    ['--blob-chunk-read-timeout: is not a duration: "30" (such as 30s)'],
  ],
  [
    { flags: { 'upstream-config-file': 'absent.yaml' } },
    ['absent.yaml: names a file that does not exist (the upstream file)'],
  ],
  [
    { flags: { root: 'x' } },
    ['--root: belongs to the sub-command filesystem (entrepot filesystem --root …)'],
  ],
  [
    { flags: { root: 'x', bucket: 'b' }, store: 's3' },
    ['--root: belongs to the sub-command filesystem (entrepot filesystem --root …)'],
  ],
  [
    { flags: { bucket: 'b' }, store: 'filesystem' },
    ['--bucket: belongs to the sub-command s3 (entrepot s3 --bucket …)'],
  ],
  [{ store: 's3' }, ['command line: bucket is required by the sub-command s3 (give --bucket or S3_BUCKET)']],
  [
    { env: { S3_BUCKET: 'b', S3_ACCESS_KEY: 'a' }, store: 's3' },
    ["S3_ACCESS_KEY: is given without --secret-key (give both, or neither for the SDK's credential chain)"],
  ],
  [
    { env: { S3_BUCKET: 'b', S3_REDIRECT_HOST: 's3.example.com' }, store: 's3' },
    ['S3_REDIRECT_HOST: is given without --redirect (it has no effect alone)'],
  ],
  [
    { env: { S3_BUCKET: 'a/b', S3_HOST: 'ftp://x' }, store: 's3' },
    [
      'S3_HOST: is not an endpoint: "ftp://x" (such as https://s3.example.com or http://minio:9000)',
      'S3_BUCKET: is not the name of a bucket: "a/b" (letters, digits, dots, hyphens and underscores)',
    ],
  ],
  [
    { env: { S3_BUCKET: 'b', S3_CACHE: '15MiB' }, store: 's3' },
    ['S3_CACHE: is not a size: "15MiB" (0, or at least 16MiB)'],
  ],
  [
    { flags: { bucket: 'b', 's3-cache': '10%' }, store: 's3' },
    ['--s3-cache: is not a size: "10%" (0, or at least 16MiB)'],
  ],
]

for (const [given, expected] of BAD) {
  test(`${JSON.stringify(given)} is refused: ${expected[0]}`, async () => {
    assert.deepEqual(await problemsOf(given), expected)
  })
}

const HINT = '(such as {"docker.io": {"username": "…", "password": "…"}})'
const BAD_CREDENTIALS: readonly (readonly [string, readonly string[]])[] = [
  ['hunter2', [`UPSTREAM_CREDENTIALS: is not a JSON map of namespaces to credentials ${HINT}`]],
  ['[]', [`UPSTREAM_CREDENTIALS: is not a JSON map of namespaces to credentials ${HINT}`]],
  ['{"a.io": "hunter2"}', [`UPSTREAM_CREDENTIALS: [a.io] must be a map of username and password ${HINT}`]],
  [
    '{"a.io": {"username": 5, "pass": "hunter2"}}',
    [
      'UPSTREAM_CREDENTIALS: [a.io].username must be text, not a number (put it in quotes)',
      'UPSTREAM_CREDENTIALS: [a.io].password is missing (both are required)',
      'UPSTREAM_CREDENTIALS: [a.io] has unknown keys (username and password)',
    ],
  ],
  [
    '{"hunter2 /": {}}',
    ['UPSTREAM_CREDENTIALS: [0] is not a namespace (the registry as clients name it, such as docker.io)'],
  ],
  [
    '{"docker.io": {"username": "u", "password": "hunter2"}, "index.docker.io": {"username": "u", "password": "hunter2"}}',
    ['UPSTREAM_CREDENTIALS: [docker.io] is given twice (keep one)'],
  ],
  [
    '{"__proto__": {"username": "u"}}',
    ['UPSTREAM_CREDENTIALS: [0] is not a namespace (the registry as clients name it, such as docker.io)'],
  ],
]

for (const [text, expected] of BAD_CREDENTIALS) {
  test(`credentials of ${text.replaceAll('hunter2', '…')} are refused, and the message does not repeat them`, async () => {
    const problems = await problemsOf({ env: { UPSTREAM_CREDENTIALS: text } })
    assert.deepEqual(problems, expected)
    assert.equal(problems.join().includes('hunter2'), false)
  })
}

test('flags, environment, credentials and file report their problems together', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-load-'))
  await writeFile(join(directory, 'u.yaml'), '- namespace: a.io\n')
  const problems = await problemsOf({
    flags: { listen: 'x', 'upstream-config-file': join(directory, 'u.yaml') },
    env: { LOG_LEVEL: 'x', UPSTREAM_CREDENTIALS: 'x' },
  })
  await rm(directory, { recursive: true })
  assert.equal(problems.length, 4)
})

test('an S3 bucket is described by flags and environment; a bare host means https and paths', async () => {
  const { config } = await load({
    store: 's3',
    flags: { host: 'minio:9000', prefix: '/mirror' },
    env: { S3_BUCKET: 'b', S3_ACCESS_KEY: 'access-hunter2', S3_SECRET_KEY: 'secret-hunter2' },
  })
  const { store } = config
  assert.ok(store.kind === 's3')
  assert.equal(store.endpoint, 'https://minio:9000')
  assert.equal(store.region, 'us-east-1')
  assert.equal(store.prefix, 'mirror/')
  assert.equal(store.isPathStyle, true)
  assert.equal(store.secretKey?.reveal(), 'secret-hunter2')
  assert.match(store.spoolDirectory, /\/data\/spool$/)
  assert.equal(store.isRedirecting, false)
  assert.equal(store.copiesBytes, 0)
  assert.equal(`${inspect(config, { depth: 9 })}${JSON.stringify(config)}`.includes('hunter2'), false)
})

test('clients can be redirected to the bucket, also under another host name', async () => {
  const { config } = await load({
    store: 's3',
    flags: { 'spool-dir': '/var/spool', redirect: 'true', 'redirect-host': 's3.example.com' },
    env: { S3_BUCKET: 'b', S3_HOST: 'http://minio:9000' },
  })
  assert.ok(config.store.kind === 's3')
  assert.equal(config.store.spoolDirectory, '/var/spool')
  assert.equal(config.store.isRedirecting, true)
  assert.equal(config.store.redirectEndpoint, 'https://s3.example.com')
})

test('local copies of the bucket have the room that is given, and the settings show it', async () => {
  const { config, settings } = await load({
    store: 's3',
    flags: { 's3-cache': '2GiB' },
    env: { S3_BUCKET: 'b', S3_CACHE: '1GiB' },
  })
  assert.ok(config.store.kind === 's3')
  assert.equal(config.store.copiesBytes, 2 * 1024 ** 3)
  assert.equal(settings.find(({ name }) => name === 's3_cache')?.value, '2GiB')
})

test('without a host the store is Amazon S3, with the bucket in the host name', async () => {
  const { config } = await load({ store: 's3', env: { S3_BUCKET: 'b', S3_HOST: '', S3_REGION: 'eu-west-1' } })
  assert.ok(config.store.kind === 's3')
  assert.equal(config.store.endpoint, undefined)
  assert.equal(config.store.isPathStyle, false)
  assert.equal(config.store.accessKey, undefined)
  assert.equal(config.store.region, 'eu-west-1')
})

test('each value has its origin', async () => {
  const { settings } = await load({
    store: 'filesystem',
    flags: { listen: '0.0.0.0:8080' },
    env: { FILESYSTEM_ROOT: '/data', LISTEN: 'ignored' },
  })
  const origins = new Map(settings.map(({ name, origin }) => [name, formatOrigin(origin)]))
  assert.equal(origins.get('listen'), '--listen')
  assert.equal(origins.get('root'), 'FILESYSTEM_ROOT')
  assert.equal(origins.get('store'), 'command line')
  assert.equal(origins.get('log_level'), 'default')
})

test('options of oci-registry without effect are accepted and noted', async () => {
  const { notices } = await load({
    flags: { 'blob-chunk-write-timeout': '30s' },
    env: { MANIFEST_INVALIDATION_TIME: '14d' },
  })
  assert.deepEqual(notices, [
    '--blob-chunk-write-timeout is accepted and has no effect',
    'MANIFEST_INVALIDATION_TIME is accepted and has no effect; set manifest_invalidation_time in the upstream file',
  ])
})

test('an open listener with credentials, or without address checks, causes a warning with a remedy', async () => {
  const env = { UPSTREAM_CREDENTIALS: '{"a.io": {"username": "u", "password": "p"}}' }
  const [open, ...others] = (await load({ env })).risks
  assert.deepEqual(others, [])
  assert.match(
    open ?? '',
    /^OPEN MIRROR WITH CREDENTIALS: .+ 0\.0\.0\.0:8080 can pull .+ \(a\.io\); to tighten: .*--listen/,
  )
  assert.deepEqual((await load({ env, flags: { listen: '127.0.0.1:8080' } })).risks, [])
  assert.deepEqual((await load({})).risks, [])
  const [any] = (await load({ flags: { namespaces: 'any' } })).risks
  assert.match(any ?? '', /0\.0\.0\.0:8080 .+ any address .+to tighten: set --namespaces/)
  assert.deepEqual((await load({ flags: { namespaces: 'configured' } })).risks, [
    '--namespaces configured without any configured upstream mirrors nothing',
  ])
})
