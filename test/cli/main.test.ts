import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

let cwd: string
const children = new Set<ChildProcess>()

before(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'entrepot-main-'))
})

after(async () => {
  for (const child of children) child.kill('SIGKILL')
  await rm(cwd, { recursive: true })
})

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs the real program to its end, with nothing in its environment but what is given. */
async function entrepot(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return await new Promise(resolve => {
    execFile(process.execPath, [MAIN, ...argv], { cwd, env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

test('a data directory that this user may not write ends the start with one sentence that says what to do', async () => {
  for (const [root, reason] of [
    ['/sys', /^entrepot: the data directory \/sys cannot be written by uid \d+, gid \d+: it .+\n$/],
    [
      '/sys/entrepot',
      /^entrepot: the data directory \/sys\/entrepot cannot be created by uid \d+, gid \d+: .+\n$/,
    ],
  ] as const) {
    const argv = ['--listen', '127.0.0.1:0', '--admin-listen', 'off', 'filesystem', '--root', root]
    const { code, stderr, stdout } = await entrepot(argv)
    assert.equal(code, 2)
    assert.match(stderr, reason)
    assert.match(stderr, /choose another directory with --root, or start with --pass-through/)
    assert.doesNotMatch(stdout, /listening/)
  }
})

test('entrepot check prints the effective configuration with the origin of every value, secrets redacted', async () => {
  await writeFile(
    join(cwd, 'upstreams.yaml'),
    '- namespace: example.com\n  host: registry.example.com\n  username: example\n  password: hunter2\n  manifest_invalidation_time: 0s\n',
    { mode: 0o600 },
  )
  const env = {
    UPSTREAM_CREDENTIALS: '{"docker.io": {"username": "aaa", "password": "hunter3"}}',
    CHECK_CACHE_DIGEST: 'true',
    https_proxy: 'http://robot:hunter4@proxy.example:3128',
    NO_PROXY: 'docker.io',
    TRUST_EGRESS_PROXY: 'true',
  }
  const argv = ['--upstream-config-file', 'upstreams.yaml', '--listen', '127.0.0.1:0', 'check', 'filesystem']
  const ran = await entrepot([...argv, '--root', '/tmp/oci-mirror'], env)
  const lines = ran.stdout.split('\n').map(line => line.replaceAll(/ +/g, ' ').trim())
  assert.deepEqual(lines, [
    'listen: 127.0.0.1:0 # --listen',
    'admin_listen: 127.0.0.1:8081 # default',
    'admin_token_file: none # default',
    'default_namespace: docker.io # default',
    'namespaces: public # default',
    'nat64_prefix: none # default',
    'https_proxy: http://robot:[redacted]@proxy.example:3128 # https_proxy',
    'http_proxy: none # default',
    'proxy_bypass: docker.io # NO_PROXY',
    'trust_egress_proxy: true # TRUST_EGRESS_PROXY',
    'check_cache_digest: true # CHECK_CACHE_DIGEST',
    'offline: false # default',
    'single_writer: false # default',
    'pass_through: false # default',
    'prove_ranges: false # default',
    'scrub_interval: 7d # default',
    'scrub_rate: 16MiB # default',
    'drain_delay: 0s # default',
    'drain_timeout: 5m # default',
    `workers: ${Math.min(availableParallelism(), 4)} # default`,
    'sendfile: true # default',
    'setup_scripts: true # default',
    'traces: false # default',
    'log_format: auto # default',
    'log_level: info # default',
    'audit_log: log # default',
    'client_requests: unlimited # default',
    'client_downloads: unlimited # default',
    `upstream_config_file: ${join(cwd, 'upstreams.yaml')} # --upstream-config-file`,
    'store: filesystem # command line',
    'root: /tmp/oci-mirror # --root',
    'max_size: none # default',
    'min_free: 5%, at least 2GiB, at most 10% # default',
    'dynamic_share: 20% # default',
    'max_blob: 50% # default',
    'read_only: false # default',
    'upstreams:',
    '- namespace: example.com # upstreams.yaml:1',
    'host: registry.example.com # upstreams.yaml:2',
    'tls: true # default',
    'accept_invalid_certs: false # default',
    'username: example # upstreams.yaml:3',
    'password: [redacted] # upstreams.yaml:4',
    'manifest_invalidation_time: 0s # upstreams.yaml:5',
    'blob_invalidation_time: never # default',
    'stale_if_error: 7d # default',
    'revalidation_wait: 3s # default',
    'deleted_tags: keep # default',
    'silence_max: 45s # default',
    'retry_after_max: 5s # default',
    'allow_http_redirects: false # default',
    'proxy: http://robot:[redacted]@proxy.example:3128 # https_proxy',
    '- namespace: docker.io # UPSTREAM_CREDENTIALS',
    'host: registry-1.docker.io # default',
    'tls: true # default',
    'accept_invalid_certs: false # default',
    'username: aaa # UPSTREAM_CREDENTIALS',
    'password: [redacted] # UPSTREAM_CREDENTIALS',
    'manifest_invalidation_time: 1m # default',
    'blob_invalidation_time: never # default',
    'stale_if_error: 7d # default',
    'revalidation_wait: 3s # default',
    'deleted_tags: keep # default',
    'silence_max: 45s # default',
    'retry_after_max: 5s # default',
    'allow_http_redirects: false # default',
    '',
  ])
  assert.equal(ran.code, 0)
  assert.equal(ran.stderr, '')
})

test('entrepot check prints all problems on standard error and exits with 2', async () => {
  await writeFile(join(cwd, 'bad.yaml'), '- namespace: example.com\n  tls: no\n  pasword: hunter2\n')
  const ran = await entrepot(['check', '--upstream-config-file', 'bad.yaml', '--log-level', 'loud'])
  assert.deepEqual(ran, {
    code: 2,
    stdout: '',
    stderr: `entrepot: 4 problems in the configuration, nothing was started:
  --log-level: is not a log level: "loud" (debug, info, warn, error or silent)
  bad.yaml:3: [0].pasword is not a known key (did you mean password?)
  bad.yaml:1: [0].host is missing (namespace and host are required)
  bad.yaml:2: [0].tls must be true or false, not the text "no" (write true or false, without quotes)
`,
  })
})

test('the version and the help exit with 0, and are in English in every locale', async () => {
  const ran = await entrepot(['--help'], { LANG: 'de_DE.UTF-8' })
  assert.equal(ran.code, 0)
  assert.match(ran.stdout, /Show help/)
  assert.match((await entrepot(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/)
})

test('a port in use causes a one-line error and exit code 1', async () => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const address = taken.address()
  assert.ok(typeof address === 'object' && address !== null)
  const listen = `127.0.0.1:${address.port}`
  const ran = await entrepot(['--listen', listen, '--admin-listen', 'off', '--log-level', 'silent'])
  taken.close()
  assert.deepEqual(ran, {
    code: 1,
    stdout: '',
    stderr: `entrepot: cannot listen on ${listen}: the address is in use (choose another with --listen)\n`,
  })
})

/** The real daemon on ports of its own, and the messages of its log. */
async function started(env: Readonly<Record<string, string>> = {}): Promise<Started> {
  const argv = [MAIN, '--listen', '127.0.0.1:0', '--admin-listen', 'off']
  const child = spawn(process.execPath, argv, { cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
  children.add(child)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const until = async (message: string): Promise<void> => {
    for (;;) {
      const { value, done } = await lines.next()
      assert.notEqual(done, true, `the log ended before "${message}"`)
      if ((JSON.parse(String(value)) as { msg: string }).msg === message) return
    }
  }
  await until('listening')
  return { child, until }
}

interface Started {
  readonly child: ChildProcess
  /** Resolves when the log has this message. */
  readonly until: (message: string) => Promise<void>
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`the real daemon exits with 0 on ${signal}`, async () => {
    const { child } = await started()
    const ended = once(child, 'exit')
    child.kill(signal)
    assert.deepEqual(await ended, [0, null])
  })
}

test('the daemon and its further threads print no warning of Node', async () => {
  const argv = [MAIN, '--listen', '127.0.0.1:0', '--admin-listen', 'off', '--workers', '2']
  const child = spawn(process.execPath, argv, { cwd, env: {}, stdio: ['ignore', 'pipe', 'pipe'] })
  children.add(child)
  let [output, warnings] = ['', '']
  child.stderr.setEncoding('utf8').on('data', (text: string) => (warnings += text))
  for await (const text of child.stdout.setEncoding('utf8')) {
    output += String(text)
    if (output.includes('"listening"')) child.kill('SIGTERM')
  }
  assert.match(output, /"listening"/)
  assert.doesNotMatch(warnings, /Warning/)
})

test('SIGHUP and a change of the file reload the upstreams; an invalid file is logged and does not stop the daemon', async () => {
  const file = join(cwd, 'reloaded.yaml')
  await writeFile(file, '[]')
  const { child, until } = await started({ UPSTREAM_CONFIG_FILE: file })
  child.kill('SIGHUP')
  await until('upstream file reloaded')
  await writeFile(file, '- {namespace: quay.io}')
  await until('upstream file not reloaded, nothing changed')
  await writeFile(file, '- {namespace: quay.io, host: quay.io}')
  await until('upstream file reloaded')
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  assert.deepEqual(await ended, [0, null])
})
