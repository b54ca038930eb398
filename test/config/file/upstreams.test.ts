import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { inspect } from 'node:util'
import type { UpstreamCredentials } from '../../../src/config/config.ts'
import { loadUpstreams, readUpstreams } from '../../../src/config/file/upstreams.ts'
import { ConfigError, formatProblem } from '../../../src/config/problem.ts'
import { Secret } from '../../../src/config/secret.ts'
import type { Namespace } from '../../../src/oci/namespace.ts'

let directory: string
let count = 0

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'entrepot-upstreams-'))
  await writeFile(join(directory, 'ca.pem'), 'a certificate')
})

after(async () => {
  await rm(directory, { recursive: true })
})

async function fileOf(text: string): Promise<string> {
  count += 1
  const path = join(directory, `${count}.yaml`)
  await writeFile(path, text)
  return path
}

/** The problems of a file, with its name cut to `u`. */
async function problemsOf(text: string): Promise<readonly string[]> {
  const path = await fileOf(text)
  const { problems } = await readUpstreams({ name: 'u', path }, new Map())
  return problems.map(formatProblem)
}

const KEYS =
  'namespace, host, tls, accept_invalid_certs, ca_file, client_cert_file, client_key_file, user_agent, username, password, password_file, docker_config, manifest_invalidation_time, blob_invalidation_time, stale_if_error, revalidation_wait, deleted_tags, silence_max, allow_addresses, realms, retry_after_max, allow_http_redirects, proxy'

/** Each text is one entry's lines below `- namespace: a.io` and `host: a.io`, on lines 3 and following. */
const BAD_KEYS: readonly (readonly [string, string | readonly string[]])[] = [
  ['tls: no', 'u:3: [0].tls must be true or false, not the text "no" (write true or false, without quotes)'],
  ['tls: maybe', 'u:3: [0].tls must be true or false, not text (write true or false, without quotes)'],
  ['tls: "true"', 'u:3: [0].tls must be true or false, not text (write true or false, without quotes)'],
  ['tls: 1', 'u:3: [0].tls must be true or false, not a number (write true or false)'],
  [
    'accept_invalid_certs: off',
    'u:3: [0].accept_invalid_certs must be true or false, not the text "off" (write true or false, without quotes)',
  ],
  ['username: u\n  password: 0777', 'u:4: [0].password must be text, not a number (put it in quotes)'],
  ['username: u\n  password: true', 'u:4: [0].password must be text, not true or false (put it in quotes)'],
  ['username: u\n  password: [a]', 'u:4: [0].password must be text, not a list'],
  [
    'username: u\n  password: ""',
    'u:4: [0].password is not a password (not empty, without control characters)',
  ],
  [
    'username: "u:v"\n  password: p',
    'u:3: [0].username is not a user name (without colons and control characters)',
  ],
  ['user_agent: 1.6', 'u:3: [0].user_agent must be text, not a number (put it in quotes)'],
  ['user_agent: "a\\r\\nb"', 'u:3: [0].user_agent is not valid in a header (use printable ASCII)'],
  [
    'manifest_invalidation_time: 60',
    'u:3: [0].manifest_invalidation_time must be a duration, not a number (write it with its unit, such as 0s, 90s, 14d or 1h 30m)',
  ],
  ['silence_max: 2h', 'u:3: [0].silence_max is not a duration from 1s to 1h: "2h" (such as 45s or 2m)'],
  ['deleted_tags: drop', 'u:3: [0].deleted_tags is not keep or forget: "drop" (write keep or forget)'],
  [
    'stale_if_error: soon',
    'u:3: [0].stale_if_error is not a duration: "soon" (such as 0s, 90s, 14d or 1h 30m)',
  ],
  [
    'allow_addresses: 127.0.0.0/8',
    'u:3: [0].allow_addresses must be a list, not text (write it in brackets, such as [127.0.0.0/8])',
  ],
  [
    'allow_addresses: [10.0.0.0/8, 10.0.0.0/40]',
    'u:3: [0].allow_addresses[1] is not a block of addresses: "10.0.0.0/40" (such as 127.0.0.0/8 or fd00::/8)',
  ],
  ['realms: [5]', 'u:3: [0].realms[0] must be text, not a number (put it in quotes)'],
  ['pasword: hunter2', 'u:3: [0].pasword is not a known key (did you mean password?)'],
  ['frobnicate: 1', `u:3: [0].frobnicate is not a known key (known keys: ${KEYS})`],
  ['__proto__: {tls: false}', `u:3: [0].__proto__ is not a known key (known keys: ${KEYS})`],
  ['constructor: 1', `u:3: [0].constructor is not a known key (known keys: ${KEYS})`],
  ['hunter2: 1', `u:3: [0] has an unknown key (known keys: ${KEYS})`],
  ['tls: true\n  tls: false', 'u:4: [0].tls is written already on line 3 (keep one)'],
  ['? [a]\n  : b', 'u:3: [0] has a key that is not text'],
  ['tls: *nowhere', 'u:3: [0].tls refers to an anchor (*) that does not exist'],
  [
    'tls: !vault x',
    [
      'u:3: has an unknown tag (!); leave it out',
      'u:3: [0].tls must be true or false, not text (write true or false, without quotes)',
    ],
  ],
  ['ca_file: absent.pem', 'u:3: [0].ca_file names a file that does not exist'],
  ['ca_file: .', 'u:3: [0].ca_file is a directory, not a file'],
  ['ca_file: ca.pem/x', 'u:3: [0].ca_file names a file that does not exist'],
  ['username: u', 'u:3: [0] has username without password or password_file (they belong together)'],
  ['password: p', 'u:3: [0] has password without username (they belong together)'],
  [
    'username: u\n  password: p\n  password_file: ca.pem',
    'u:5: [0] has both password and password_file (keep one of them)',
  ],
  [
    'docker_config: ca.pem\n  username: u\n  password: p',
    [
      'u:3: [0] has both username and docker_config (keep one of them)',
      'u:3: [0] has both password and docker_config (keep one of them)',
    ],
  ],
  [
    'client_cert_file: ca.pem',
    'u:3: [0] has client_cert_file without client_key_file (they belong together)',
  ],
  ['client_key_file: ca.pem', 'u:3: [0] has client_key_file without client_cert_file (they belong together)'],
  [
    'tls: false\n  ca_file: ca.pem',
    'u:4: [0] has both tls: false and ca_file (plain http has no certificates)',
  ],
]

for (const [lines, expected] of BAD_KEYS) {
  test(`an entry with ${JSON.stringify(lines)} is refused in plain words, with its line`, async () => {
    const problems = await problemsOf(`- namespace: a.io\n  host: a.io\n  ${lines}\n`)
    assert.deepEqual(problems, [expected].flat())
  })
}

const BAD_FILES: readonly (readonly [string, readonly string[]])[] = [
  [
    'namespace: a.io\nhost: a.io\n',
    ['u:1: must be a list of upstreams (begin each one with "- namespace:")'],
  ],
  ['just text', ['u:1: must be a list of upstreams (begin each one with "- namespace:")']],
  [
    '- a.io\n- [b]\n',
    [
      'u:1: [0] must be a map of keys and values (such as namespace: example.com)',
      'u:2: [1] must be a map of keys and values (such as namespace: example.com)',
    ],
  ],
  [
    '- tls: true\n',
    [
      'u:1: [0].namespace is missing (namespace and host are required)',
      'u:1: [0].host is missing (namespace and host are required)',
    ],
  ],
  [
    '- namespace: null\n  host: ~\n',
    [
      'u:1: [0].namespace is missing (namespace and host are required)',
      'u:2: [0].host is missing (namespace and host are required)',
    ],
  ],
  [
    '- namespace: 5\n  host: https://a.io\n',
    [
      'u:1: [0].namespace must be text, not a number (put it in quotes)',
      'u:2: [0].host is not a host (leave out http:// or https://; tls: false means plain http)',
    ],
  ],
  [
    '- namespace: a.io/b\n  host: u:p@a.io\n',
    [
      'u:1: [0].namespace is not a namespace (leave out the path)',
      'u:2: [0].host is not a host (credentials belong under username and password)',
    ],
  ],
  [
    '- {namespace: docker.io, host: a.io}\n- {namespace: Index.Docker.io, host: b.io}\n',
    ['u:2: [1].namespace is docker.io again, which line 1 configures (one entry for each namespace)'],
  ],
  [
    '- {namespace: a.io, host: a.io}\n- {namespace: "A.io:443", host: a.io}\n',
    ['u:2: [1].namespace is a.io again, which line 1 configures (one entry for each namespace)'],
  ],
  ['- namespace: a.io\n  host: a.io\n  password: "hunter2\n', ['u:4: lacks a quote, bracket, colon or dash']],
  ['- namespace: a.io\n  host: b: c\n', ['u:2: has a second colon on the line; put the value in quotes']],
  ['- namespace: a.io\n\thost: a.io\n', ['u:2: is indented by a tab; use spaces']],
  ['- namespace: @a\n', ['u:1: begins with a character that YAML reserves; put the value in quotes']],
  ['- a: 1\n--- \n- b: 2\n', ['u:2: begins a second document (---); one is expected']],
  [
    `- {password:hunter2}\n`,
    [
      'u:1: [0] has an unknown key (a colon must be followed by a space)',
      'u:1: [0].namespace is missing (namespace and host are required)',
      'u:1: [0].host is missing (namespace and host are required)',
    ],
  ],
  [
    `- &a {namespace: a.io, host: a.io}\n${'- *a\n'.repeat(101)}`,
    ['u: has more than 100 aliases (write the values out)'],
  ],
  [`# ${'x'.repeat(1024 * 1024)}`, ['u: is larger than 1 MiB']],
]

for (const [text, expected] of BAD_FILES) {
  test(`a file of ${JSON.stringify(text.slice(0, 60))} is refused in plain words`, async () => {
    assert.deepEqual(await problemsOf(text), expected)
  })
}

test('deep nesting is refused and does not end the process', async () => {
  const problems = await problemsOf('['.repeat(200_000))
  assert.equal(problems.length > 0, true)
  assert.match(problems[0] ?? '', /^u(:1)?: /)
})

test('an alias bomb is a value of the wrong type, whatever its expanded size', async () => {
  const levels = 'bcdefghi'
  const bomb = Array.from(levels, (name, index) => {
    const previous = index === 0 ? 'a' : levels[index - 1]
    return `  ${name}: &${name} [${Array.from({ length: 10 }, () => `*${previous}`).join(', ')}]\n`
  })
  const problems = await problemsOf(`- a: &a [x, x]\n${bomb.join('')}  namespace: a.io\n  host: *i\n`)
  assert.ok(problems.includes('u:11: [0].host must be text, not a list'))
})

test('all problems of all entries are reported at once, in the order of the file', async () => {
  const problems = await problemsOf(
    '- namespace: a.io\n  tls: yes\n- host: b.io\n  ca_file: nowhere\n- namespace: c.io\n  host: c.io\n  tsl: true\n',
  )
  assert.deepEqual(
    problems.map(problem => problem.slice(0, problem.indexOf(' ', 6))),
    ['u:1: [0].host', 'u:2: [0].tls', 'u:3: [1].namespace', 'u:4: [1].ca_file', 'u:7: [2].tsl'],
  )
})

test("oci-registry's example file works unchanged, its nulls being absent values", async () => {
  const path = await fileOf(`# Including all config keys
- namespace: docker.io
  host: registry-1.docker.io
  tls: true
  accept_invalid_certs: false
  user_agent: null
  username: null
  password: null
  manifest_invalidation_time: 14d
  blob_invalidation_time: 14d
- namespace: quay.io
  host: quay.io
- namespace: example.com
  host: registry.example.com
  user_agent: "containerd/1.6.8"
  username: example
  password: hunter2
  manifest_invalidation_time: 0s
  blob_invalidation_time: 30d
`)
  const [hub, quay, example] = (await loadUpstreams(path)).upstreams
  assert.equal(hub?.credentials, undefined)
  assert.equal(hub?.manifestInvalidationMs, 14 * 86_400_000)
  assert.deepEqual(quay, {
    namespace: 'quay.io',
    host: 'quay.io',
    tls: true,
    acceptInvalidCerts: false,
    caFile: undefined,
    clientCertFile: undefined,
    clientKeyFile: undefined,
    userAgent: undefined,
    credentials: undefined,
    manifestInvalidationMs: 60_000,
    blobInvalidationMs: undefined,
    staleIfErrorMs: 7 * 86_400_000,
    revalidationWaitMs: 3000,
    deletedTags: 'keep',
    silenceMaxMs: 45_000,
    allowAddresses: [],
    realms: [],
    retryAfterMaxMs: 5000,
    allowHttpRedirects: false,
    proxy: undefined,
  })
  assert.equal(example?.manifestInvalidationMs, 0)
  assert.equal(example?.userAgent, 'containerd/1.6.8')
  assert.ok(example?.credentials?.kind === 'password')
  assert.equal(example.credentials.password.reveal(), 'hunter2')
  assert.equal(inspect(example, { depth: 9 }).includes('hunter2'), false)
})

test('every key reaches the configuration, and files are found beside the upstream file', async () => {
  const path = await fileOf(`- namespace: a.io
  host: "[::1]:5000"
  accept_invalid_certs: true
  ca_file: ca.pem
  client_cert_file: ca.pem
  client_key_file: ${join(directory, 'ca.pem')}
  username: u
  password_file: ./ca.pem
  stale_if_error: 1h 30m
  allow_addresses: [127.0.0.0/8, "::1"]
  realms: [Auth.Example.com]
  retry_after_max: 2s
  allow_http_redirects: true
  proxy: http://me:hunter2@proxy.example:3128
- {namespace: b.io, host: b.io, docker_config: ca.pem}
`)
  const [a, b] = (await loadUpstreams(path)).upstreams
  const ca = join(directory, 'ca.pem')
  assert.equal(a?.host, '[::1]:5000')
  assert.equal(a.acceptInvalidCerts, true)
  assert.deepEqual([a.caFile, a.clientCertFile, a.clientKeyFile], [ca, ca, ca])
  assert.deepEqual(a.credentials, { kind: 'password-file', username: 'u', passwordFile: ca })
  assert.equal(a.staleIfErrorMs, 5_400_000)
  assert.deepEqual(a.allowAddresses, ['127.0.0.0/8', '::1/128'])
  assert.deepEqual(a.realms, ['auth.example.com'])
  assert.equal(a.retryAfterMaxMs, 2000)
  assert.equal(a.allowHttpRedirects, true)
  assert.deepEqual(b?.credentials, { kind: 'docker-config', file: ca })
})

test('an empty file, one of comments, an empty list and a byte order mark are fine', async () => {
  for (const text of ['', '# nothing yet\n', '[]', 'null', '\u{feff}[]', '---\n[]\n']) {
    assert.deepEqual((await loadUpstreams(await fileOf(text))).upstreams, [], JSON.stringify(text))
  }
})

test('a shared value may be written once, as an anchor and its aliases', async () => {
  const text =
    '- {namespace: a.io, host: a.io, stale_if_error: &long 30d}\n- {namespace: b.io, host: b.io, stale_if_error: *long}\n'
  const { upstreams } = await loadUpstreams(await fileOf(text))
  assert.equal(upstreams[1]?.staleIfErrorMs, 30 * 86_400_000)
})

test('a file that does not exist or is a directory is a configuration error that names it', async () => {
  const absent = join(directory, 'absent.yaml')
  await assert.rejects(loadUpstreams(absent), (error: unknown) => {
    assert.ok(error instanceof ConfigError)
    assert.equal(error.message, `${absent}: names a file that does not exist (the upstream file)`)
    return true
  })
  await assert.rejects(loadUpstreams(directory), ConfigError)
})

const GIVEN: UpstreamCredentials = { kind: 'password', username: 'e', password: new Secret('env-secret') }

test('credentials of the environment win over any in the file', async () => {
  const path = await fileOf('- {namespace: a.io, host: a.io, username: f}\n')
  const { upstreams, problems } = await readUpstreams(
    { name: 'u', path },
    new Map([['a.io' as Namespace, GIVEN]]),
  )
  assert.deepEqual(problems, [])
  assert.equal(upstreams[0]?.config.credentials, GIVEN)
  assert.deepEqual(upstreams[0]?.origins.get('password'), {
    kind: 'environment',
    name: 'UPSTREAM_CREDENTIALS',
  })
})

test('credentials of a namespace that the file does not have configure it, Docker Hub at its real host', async () => {
  const credentials = new Map([
    ['docker.io' as Namespace, GIVEN],
    ['ghcr.io' as Namespace, GIVEN],
  ])
  const { upstreams } = await readUpstreams(undefined, credentials)
  assert.deepEqual(
    upstreams.map(({ config }) => [config.namespace, config.host, config.tls, config.credentials === GIVEN]),
    [
      ['docker.io', 'registry-1.docker.io', true, true],
      ['ghcr.io', 'ghcr.io', true, true],
    ],
  )
})

test('no problem of a broken file repeats a part of a secret', async () => {
  const secret = 'S3cr3t-Value'
  const places = [
    `- namespace: a.io\n  host: a.io\n  password: "${secret}\n`,
    `- namespace: a.io\n  password: ${secret}: x\n`,
    `- {password:${secret}}`,
    `- ${secret}`,
    secret,
    `- namespace: a.io\n  ${secret}: x\n`,
    `- namespace: a.io\n  host: u:${secret}@a.io\n`,
    `- namespace: a.io\n  host: ${secret}/\n  tls: ${secret}\n  realms: ${secret}\n`,
    `- namespace: a.io\n  password: !${secret} x\n`,
    `- namespace: a.io\n  password: *${secret}\n`,
    `- namespace: a.io\n  password: [${secret}]\n`,
    `- namespace: a.io\n  password: x\n ${secret}\n`,
    `%${secret}\n---\n[]`,
    `- password: "\\${secret}"`,
    `- username: "${secret}:x"\n  manifest_invalidation_time: u:${secret}@a.io\n  ca_file: ${secret}`,
  ]
  for (const text of places) {
    const problems = await problemsOf(text)
    assert.ok(problems.length > 0, text)
    assert.equal(problems.join('\n').includes(secret), false, problems.join('\n'))
  }
})
