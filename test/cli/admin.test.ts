import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Secret } from '../../src/config/secret.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { type MirrorOptions, startMirror, type TestMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { contentPath, until } from '../support/waiting.ts'
import { type Ran, runCommandLine } from './rig.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

let directory: string
let upstream: FakeUpstream
let mirror: TestMirror
let shared: Uint8Array
let layers: readonly Digest[]

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'entrepot-admin-'))
  upstream = await startUpstream()
  shared = randomBytes(300_000)
  const one = upstream.putImage({ layers: [shared, randomBytes(100_000)] })
  const two = upstream.putImage({ layers: [shared, randomBytes(50_000)] })
  upstream.tag('library/one', '1', one.manifest)
  upstream.tag('library/one', '2', two.manifest)
  upstream.tag('team/two', 'latest', two.manifest)
  layers = one.layers
  mirror = await startMirror({ upstream: upstream.host })
})

after(async () => {
  await mirror[Symbol.asyncDispose]()
  await upstream[Symbol.asyncDispose]()
  await rm(directory, { recursive: true })
})

function adminOf({ daemon }: TestMirror): string {
  const { admin = '' } = daemon.addresses
  return admin.startsWith('unix:') ? admin : `http://${admin}`
}

async function entrepot(...argv: readonly string[]): Promise<Ran> {
  return await runCommandLine(argv, { env: { ENTREPOT_ADMIN: adminOf(mirror) } })
}

/** What a user does, one thing after the other. */
test('an image is warmed, listed, explained, pinned, verified and removed, and each command reports it', async t => {
  await t.test('warm pulls everything and reports it', async () => {
    const ran = await entrepot('warm', 'one:1', 'one:2')
    assert.equal(ran.stderr, '')
    assert.equal(ran.code, 0)
    assert.match(ran.stdout, /^one:1\n(?: {2}[0-9a-f]{12} {2}█+ 100 % .*(?:done|already cached)\n){3}/)
    assert.match(ran.stdout, /293 KiB already cached/)
    assert.equal(upstream.count({ method: 'GET', path: `/v2/library/one/blobs/${layers[0]}` }), 1)
  })
  await t.test('ls lists the images with their sizes', async () => {
    const { stdout, code } = await entrepot('ls')
    assert.equal(code, 0)
    const [heading = '', ...rows] = stdout.trimEnd().split('\n')
    assert.match(heading, /^IMAGE +DIGEST +SIZE +LAST USE +HITS$/)
    assert.match(
      rows[0] ?? '',
      /^docker\.io\/library\/one:1 +[0-9a-f]{12} +39\d KiB +(?:now|\d+ s ago) +\d+$/,
    )
    assert.equal(rows.length, 2)
  })
  await t.test(
    'ls --blobs --sort size begins with the largest, and --json has a value on each line',
    async () => {
      const { stdout } = await entrepot('ls', '--blobs', '--sort', 'size', '--json', '--limit', '2')
      const [first, ...others] = stdout
        .trimEnd()
        .split('\n')
        .map(line => JSON.parse(line) as { readonly digest: string; readonly sizeBytes: number })
      assert.deepEqual(
        { digest: first?.digest, sizeBytes: first?.sizeBytes },
        { digest: layers[0], sizeBytes: 300_000 },
      )
      assert.equal(others.length, 1)
    },
  )
  await t.test('explain says how the last pull went and how the next will', async () => {
    await mirror.get('/v2/library/one/manifests/1?ns=docker.io')
    await mirror.get('/v2/library/one/manifests/1?ns=docker.io')
    const { stdout, code } = await entrepot('explain', 'docker.io/library/one:1')
    assert.equal(code, 0)
    assert.match(stdout, /^docker\.io\/library\/one:1\ncached +39\d KiB, whole\n/)
    assert.match(stdout, /\nlast pull +now: hit, because the manifest was cached/)
    assert.match(stdout, /\nnext pull +hit: the upstream confirmed the tag a moment ago\n/)
    assert.match(stdout, /\n {2}● blob /)
    assert.match(
      (await entrepot('explain', 'ghcr.io/never/seen:1')).stdout,
      /cached +nothing\n.*\nnext pull +miss: nothing of it is cached/,
    )
  })
  await t.test('pin keeps the image, and rm refuses to remove it', async () => {
    assert.equal((await entrepot('pin', 'one:1')).stdout, 'pinned docker.io/library/one:1\n')
    assert.equal((await entrepot('pin', 'one:1')).stdout, 'already pinned docker.io/library/one:1\n')
    assert.match((await entrepot('pin')).stdout, /^IMAGE +PINNED\ndocker\.io\/library\/one:1 +now\n$/)
    const refused = await entrepot('rm', 'one:1')
    assert.deepEqual(
      { code: refused.code, stderr: refused.stderr },
      { code: 1, stderr: 'entrepot: one:1: the image is pinned: unpin it first\n' },
    )
    assert.equal((await entrepot('unpin', 'one:1')).stdout, 'unpinned docker.io/library/one:1\n')
    assert.equal((await entrepot('unpin', 'one:1')).code, 1)
  })
  await t.test('verify reads everything, and exits with 1 if something is damaged', async () => {
    assert.match(
      (await entrepot('verify')).stdout,
      /^verified \d+ objects, \S+ KiB: 0 damaged, 0 unreadable\n$/,
    )
    await writeFile(contentPath(mirror, layers[1] ?? layers[0] ?? ('' as Digest)), 'damaged')
    const ran = await entrepot('verify')
    assert.equal(ran.code, 1)
    assert.match(ran.stdout, /: 1 damaged, 0 unreadable/)
  })
  await t.test('rm removes the image but not content of other images, also after a failure', async () => {
    const { stdout, stderr, code } = await entrepot('rm', 'absent:9', 'one:1')
    assert.match(stderr, /^entrepot: absent:9: /)
    assert.equal(code, 1)
    assert.match(
      stdout,
      /^removed docker\.io\/library\/one:1: \d objects?, .*; \d objects are kept or not cached\n$/,
    )
    assert.ok(existsSync(contentPath(mirror, layers[0] ?? ('' as Digest))))
    assert.doesNotMatch((await entrepot('ls')).stdout, /one:1/)
    assert.match((await entrepot('rm', 'one:1')).stderr, /has no manifest 1/)
  })
  await t.test('gc --free evicts, and status shows the rest', async () => {
    assert.match((await entrepot('gc', '--free', '250KiB')).stdout, /^evicted \d+ objects?, /)
    assert.equal((await entrepot('gc')).stdout, 'nothing to evict, or everything is in use or pinned\n')
    const { stdout } = await entrepot('status')
    assert.match(
      stdout,
      /^entrepot \S+, up .*, filesystem \/.*\nhealth +healthy\nused +.* no maximum\ncontent +\d+ objects?, /,
    )
    assert.match(stdout, /\nindex +complete\n(?:.*\n)*docker\.io +reachable +.*\n\ndownloads none\n$/)
  })
})

test('warm reads a list, reports the image that failed, and exits with 1', async () => {
  const list = join(directory, 'list')
  await writeFile(list, '# what we need\nteam/two\n\nteam/none:9   # not there\n')
  const ran = await entrepot('warm', '--file', list)
  assert.equal(ran.code, 1)
  assert.match(ran.stdout, /^team\/two\n/)
  assert.match(ran.stderr, /^entrepot: team\/none:9: docker\.io\/team\/none has no manifest 9\n$/)
})

test('a command without an answer from the daemon reports the address', async () => {
  const env = { ENTREPOT_ADMIN: `unix:${join(directory, 'nobody.sock')}` }
  for (const argv of [['status'], ['ls'], ['warm', 'alpine'], ['verify'], ['gc', '--json']]) {
    const ran = await runCommandLine(argv, { env })
    assert.equal(ran.code, 1)
    assert.match(
      ran.stderr,
      /no daemon answers at unix:.*nobody\.sock; is it running, and is --admin-listen on\?/,
    )
  }
})

for (const [argv, said] of [
  [['explain'], /an image is missing/],
  [['explain', 'one', 'two'], /two is an unexpected argument/],
  [['rm', 'Not/An Image'], /is not an image name/],
  [['ls', '--limit', 'many'], /--limit: is not a whole number above 0: many/],
  [['ls', 'docker.io', '--blobs'], /docker\.io is an unexpected argument/],
  [['ls', 'docker.io/ä'], /docker\.io\/ä is not a pattern/],
  [['ls', '--sort', 'age'], /--sort: is not an order: age \(one of name, last-use, size, hits\)/],
  [['ls', '--blobs', '--sort', 'name'], /--sort: is not an order: name/],
  [['ls', '--blobs', '--registry', 'ghcr.io'], /--registry: has no effect with --blobs/],
  [['rm', '--unused-for', 'long'], /--unused-for: is not a duration: long/],
  [['rm'], /an image is missing/],
  [['status', 'now'], /now is an unexpected argument/],
  [['verify', 'alpine'], /alpine is an unexpected argument/],
  [['gc', '20GiB'], /20GiB is an unexpected argument/],
  [['warm', 'alpine', '--platform', 'linux'], /--platform: is not a platform/],
  [['gc', '--free', 'much'], /--free: is not a size: much/],
  [['status', '--admin', 'ftp://x'], /--admin: is not an address/],
  [['status', '--jsn'], /did you mean --json/],
] as const) {
  test(`entrepot ${argv.join(' ')} is refused with exit code 2, before any request`, async () => {
    const ran = await runCommandLine(argv)
    assert.equal(ran.code, 2)
    assert.match(ran.stderr, said)
  })
}

test('a daemon with a token requires it for administration, also on a unix socket, but not for metrics', async () => {
  const token = randomBytes(16).toString('hex')
  const file = join(directory, 'token')
  await writeFile(file, `${token}\n`)
  const options: MirrorOptions = { upstream: upstream.host, config: { adminToken: new Secret(token) } }
  await using guarded = await startMirror(options)
  const env = { ENTREPOT_ADMIN: adminOf(guarded) }
  assert.match((await runCommandLine(['status'], { env })).stderr, /administration needs the token/)
  assert.equal((await runCommandLine(['status', '--token-file', file], { env })).code, 0)
  assert.equal((await guarded.admin('GET', '/metrics')).status, 200)
  const socket = join(directory, 'admin.sock')
  await using reached = await startMirror({
    upstream: upstream.host,
    config: { adminListen: { kind: 'unix', path: socket } },
  })
  assert.equal(adminOf(reached), `unix:${socket}`)
  assert.equal((await runCommandLine(['status', '--admin', `unix:${socket}`])).code, 0)
  const listener = adminOf(guarded).replace('http://', '')
  assert.equal((await runCommandLine(['status', '--admin', listener, '--token-file', file])).code, 0)
})

test('status --watch shows it again, waits for a daemon that goes away, and ends with 0 on Ctrl-C', async () => {
  const watched = await startMirror({ upstream: upstream.host })
  const reports: string[] = []
  const ran = await runCommandLine(['status', '--watch'], {
    env: { ENTREPOT_ADMIN: adminOf(watched) },
    onOutput: (text, signals) => {
      reports.push(text)
      if (/^no downloads|^downloads none/m.test(text)) void watched[Symbol.asyncDispose]()
      if (text.includes('no daemon answers')) signals.send('SIGINT')
    },
  })
  assert.equal(ran.code, 0)
  assert.match(reports[0] ?? '', /^entrepot \d/)
  assert.match(reports.at(-1) ?? '', /^\nentrepot: no daemon answers at /)
})

test('in the environment of a daemon, as in a container, commands find its listener and its token', async () => {
  const token = randomBytes(16).toString('hex')
  const file = join(directory, 'token-of-the-container')
  await writeFile(file, `${token}\n`)
  await using guarded = await startMirror({
    upstream: upstream.host,
    config: { adminToken: new Secret(token) },
  })
  const port = adminOf(guarded).split(':').at(-1) ?? ''
  const env = { ADMIN_LISTEN: `0.0.0.0:${port}`, ADMIN_TOKEN_FILE: file }
  const inside = await runCommandLine(['status'], { env })
  assert.equal(inside.code, 0, inside.stderr)
  const elsewhere = { ...env, ENTREPOT_ADMIN: adminOf(guarded) }
  assert.match(
    (await runCommandLine(['status'], { env: elsewhere })).stderr,
    /administration needs the token/,
  )
})

test('a token that is changed in its file is in force at once, and the one before while the file has none', async () => {
  const [first, second] = ['first-token-of-some-length', 'second-token-of-some-length']
  const daemonFile = join(directory, 'token-of-the-daemon')
  const ownFile = join(directory, 'token-of-the-user')
  await writeFile(daemonFile, first)
  await using guarded = await startMirror({
    upstream: upstream.host,
    config: { adminToken: new Secret(first), adminTokenFile: daemonFile },
  })
  const codeWith = async (token: string): Promise<number> => {
    await writeFile(ownFile, token)
    const argv = ['status', '--admin', adminOf(guarded), '--token-file', ownFile]
    return (await runCommandLine(argv)).code
  }
  assert.deepEqual([await codeWith(first), await codeWith(second)], [0, 1])
  await writeFile(daemonFile, second)
  assert.deepEqual([await codeWith(first), await codeWith(second)], [1, 0])
  await writeFile(daemonFile, 'short')
  assert.deepEqual([await codeWith('short'), await codeWith(second)], [1, 0])
  await rm(daemonFile)
  assert.equal(await codeWith(second), 0)
  assert.equal(guarded.log.filter(({ msg }) => String(msg).startsWith('the admin token file')).length, 1)
})

const hasTerminal = existsSync('/usr/bin/script')

test('on a terminal, warm redraws one bar per layer in place', { skip: !hasTerminal }, async () => {
  const image = upstream.putImage({ layers: [randomBytes(3_000_000), randomBytes(1_000_000)] })
  upstream.tag('library/drawn', 'latest', image.manifest)
  const command = `${process.execPath} ${MAIN} warm drawn --admin ${adminOf(mirror)}`
  const { promise, resolve } = Promise.withResolvers<string>()
  execFile('/usr/bin/script', ['-qec', command, '/dev/null'], { env: { TERM: 'xterm' } }, (_error, stdout) =>
    resolve(stdout),
  )
  const text = await promise
  assert.match(text, /drawn\r?\n/)
  // oxlint-disable-next-line no-control-regex -- a terminal is steered by control characters
  assert.match(text, /\u001B\[2K {2}[0-9a-f]{12} {2}█/)
  for (const layer of image.layers)
    assert.ok(text.includes(layer.slice('sha256:'.length, 'sha256:'.length + 12)))
  assert.match(text, /100 % .*done/)
  assert.match(text, /pulled 3\.81 MiB/)
  await until(() => existsSync(contentPath(mirror, image.layers[0] ?? image.config)), 'it is stored')
})

test('warm exits with 1 and says why, if an image was pulled but could not be cached whole', async () => {
  const bound = { kind: 'bytes', bytes: 200_000 } as const
  const space = { maxSize: undefined, minFree: { kind: 'bytes', bytes: 0 }, dynamicShare: 1 } as const
  await using small = await startMirror({
    upstream: upstream.host,
    config: { space: { ...space, maxBlob: bound } },
  })
  const env = { ENTREPOT_ADMIN: adminOf(small) }
  const ran = await runCommandLine(['warm', 'one:1'], { env })
  assert.equal(ran.code, 1)
  assert.match(ran.stdout, / failed: pulled, but not cached: it is larger than --max-blob .* allows/)
  assert.match(ran.stdout, /^ {2}pulled .*, 1 layers? failed$/m)
  const again = await runCommandLine(['warm', 'one:1', '--json'], { env })
  assert.equal(again.code, 1)
  assert.match(again.stdout, /"state":"cached"/)
  const unwritable = { root: '/sys/entrepot', config: { passesThrough: true } }
  await using dry = await startMirror({ upstream: upstream.host, ...unwritable })
  const none = await runCommandLine(['warm', 'one:1'], { env: { ENTREPOT_ADMIN: adminOf(dry) } })
  assert.equal(none.code, 1)
  assert.match(none.stdout, /pulled, but not cached: the store takes nothing: E[A-Z]+: /)
})
