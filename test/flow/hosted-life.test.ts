import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import type { DaemonReport } from '../../src/admin/contract.ts'
import { type HostedPolicy, NO_SECTIONS } from '../../src/config/config.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { parseNamePattern } from '../../src/oci/name-pattern.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type HostedMirror, sectionsOf, startHosted } from '../support/hosted.ts'
import { errorCodes, errorMessage, until } from '../support/waiting.ts'

const NAME = 'registry.example.com/team/app'
const CLAIMS = { 'registry.example.com/**': undefined }
const DAY_MS = 24 * 3_600_000

interface Options {
  readonly policy?: Partial<HostedPolicy>
  readonly clock?: FakeClock
}

async function start({ policy, clock }: Options): Promise<HostedMirror> {
  const names = parseNamePattern('registry.example.com/**')
  assert.ok(names)
  const full = { names, immutableTags: [], quotaBytes: undefined, isReadOnly: false, retention: undefined }
  const policies = policy === undefined ? NO_SECTIONS.policies : [{ ...full, ...policy }]
  return await startHosted({
    config: { sections: { ...sectionsOf(CLAIMS), policies } },
    ...(clock === undefined ? {} : { overrides: { clock } }),
  })
}

async function pushBlob(hosted: HostedMirror, text: string): Promise<Digest> {
  const body = Buffer.from(text)
  const digest = digestOf(body)
  const reply = await hosted.send('POST', `/v2/${NAME}/blobs/uploads/?digest=${digest}`, { body })
  assert.equal(reply.status, 201, reply.body.toString())
  return digest
}

function imageOf(config: Digest, version: number): Buffer {
  const described = { mediaType: 'x/y', digest: config, size: 2 }
  const annotations = { version: String(version) }
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: described, layers: [], annotations }),
  )
}

async function pushTag(hosted: HostedMirror, tag: string, body: Buffer): ReturnType<HostedMirror['send']> {
  return await hosted.send('PUT', `/v2/${NAME}/manifests/${tag}`, { body })
}

async function linesOf(hosted: HostedMirror, path: string): Promise<readonly Record<string, unknown>[]> {
  const reply = await hosted.admin('POST', `/_admin/v1/${path}`)
  assert.equal(reply.status, 200, reply.body.toString())
  const lines = reply.body.toString().trim().split('\n')
  return lines.map(line => JSON.parse(line) as Record<string, unknown>)
}

test('a hosted tag has a history with its deletion, and is rolled back by an administrator', async () => {
  await using hosted = await start({})
  const config = await pushBlob(hosted, '{}')
  const [one, two] = [imageOf(config, 1), imageOf(config, 2)]
  for (const image of [one, two, two]) assert.equal((await pushTag(hosted, 'latest', image)).status, 201)
  const rolled = await hosted.admin('PUT', `/_admin/v1/tags?image=${NAME}:latest&digest=${digestOf(one)}`)
  assert.deepEqual(JSON.parse(rolled.body.toString()), {
    image: `${NAME}:latest`,
    digest: digestOf(one),
    before: digestOf(two),
  })
  const got = await hosted.send('GET', `/v2/${NAME}/manifests/latest`)
  assert.deepEqual(got.body, one)
  assert.equal((await hosted.send('DELETE', `/v2/${NAME}/manifests/latest`)).status, 202)
  await hosted.restart()
  const report = await hosted.admin('GET', `/_admin/v1/history?image=${NAME}:latest`)
  const { digest, moves } = JSON.parse(report.body.toString()) as {
    digest?: string
    moves: readonly { digest?: string; by: string }[]
  }
  assert.equal(digest, undefined)
  assert.deepEqual(
    moves.map(move => [move.digest, move.by]),
    [
      [undefined, 'anonymous'],
      [digestOf(one), 'administrator'],
      [digestOf(two), 'anonymous'],
      [digestOf(one), 'anonymous'],
    ],
  )
  assert.equal((await hosted.admin('DELETE', `/_admin/v1/tags?image=${NAME}:latest`)).status, 405)
})

test('an immutable tag takes its digest again, refuses another with both, and stays taken after its deletion', async () => {
  await using hosted = await start({ policy: { immutableTags: ['v*'] } })
  const config = await pushBlob(hosted, '{}')
  const [one, two] = [imageOf(config, 1), imageOf(config, 2)]
  assert.equal((await pushTag(hosted, 'v1', one)).status, 201)
  assert.equal((await pushTag(hosted, 'v1', one)).status, 201)
  const refused = await pushTag(hosted, 'v1', two)
  assert.equal(refused.status, 409)
  assert.deepEqual(errorCodes(refused), ['DENIED'])
  for (const image of [one, two]) assert.ok(errorMessage(refused).includes(digestOf(image)))
  for (const image of [one, two]) assert.equal((await pushTag(hosted, 'latest', image)).status, 201)
  assert.equal((await hosted.send('DELETE', `/v2/${NAME}/manifests/v1`)).status, 202)
  await hosted.restart()
  assert.equal((await pushTag(hosted, 'v1', two)).status, 409)
  assert.equal((await pushTag(hosted, 'v1', one)).status, 201)
})

test('what is read-only takes neither pushes nor deletions, and is pulled', async () => {
  await using hosted = await start({ policy: { isReadOnly: true } })
  const body = Buffer.from('{}')
  const reply = await hosted.send('POST', `/v2/${NAME}/blobs/uploads/?digest=${digestOf(body)}`, { body })
  assert.equal(reply.status, 403)
  assert.match(errorMessage(reply), /read-only/)
  assert.equal((await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)).status, 403)
})

test('a quota warns when it is nearly used up, refuses what exceeds it, and an upload once it is full', async () => {
  const config = Buffer.from('{}')
  const image = imageOf(digestOf(config), 1)
  const limit = 1000 + config.length + image.length
  await using hosted = await start({ policy: { quotaBytes: limit } })
  await pushBlob(hosted, '{}')
  await pushBlob(hosted, 'x'.repeat(1000))
  await pushBlob(hosted, 'x'.repeat(1000))
  const published = await pushTag(hosted, 'latest', image)
  assert.equal(published.status, 201, published.body.toString())
  assert.match(String(published.headers['warning']), /299 - "100 % of the quota of registry\.example\.com/)
  const body = Buffer.from('one more')
  const refused = await hosted.send('POST', `/v2/${NAME}/blobs/uploads/?digest=${digestOf(body)}`, { body })
  assert.equal(refused.status, 403)
  assert.match(errorMessage(refused), new RegExp(`${limit} of ${limit} bytes`))
  assert.equal((await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)).status, 403)
  assert.equal((await hosted.send('DELETE', `/v2/${NAME}/manifests/${digestOf(image)}`)).status, 202)
  assert.equal((await pushTag(hosted, 'latest', image)).status, 201)
})

const RETENTION = {
  tags: ['*'],
  keepPushed: 0,
  pushedWithinMs: 0,
  keepPulled: 0,
  pulledWithinMs: 0,
  keepsVersions: true,
}

test('retention keeps what was pulled lately, also after a restart, and explain says when that was', async () => {
  const clock = new FakeClock()
  await using hosted = await start({ policy: { retention: { ...RETENTION, pulledWithinMs: 60_000 } }, clock })
  const config = await pushBlob(hosted, '{}')
  for (const [version, tag] of ['one', 'two'].entries())
    assert.equal((await pushTag(hosted, tag, imageOf(config, version))).status, 201)
  const verdicts = async (): Promise<readonly unknown[]> => {
    const lines = await linesOf(hosted, 'collect?dry-run=true')
    const tags = lines.filter(({ event }) => event === 'tag')
    return tags.filter(({ isKept }) => isKept === true).map(({ image }) => image)
  }
  await hosted.ageHolds()
  // From the first round on it is recorded who is pulled.
  await linesOf(hosted, 'collect')
  clock.advance(50_000)
  assert.equal((await hosted.send('HEAD', `/v2/${NAME}/manifests/two`)).status, 200)
  clock.advance(20_000)
  assert.deepEqual(await verdicts(), [`${NAME}:two`])
  await hosted.restart()
  assert.deepEqual(await verdicts(), [`${NAME}:two`])
  const explained = JSON.parse(
    String((await hosted.admin('GET', `/_admin/v1/explain?image=${NAME}:two`)).body),
  )
  assert.equal(explained.hits, 1)
  assert.equal(explained.lastUse, new Date(clock.wallMs() - 20_000).toISOString())
  await linesOf(hosted, 'collect')
  assert.equal((await hosted.send('GET', `/v2/${NAME}/manifests/one`)).status, 404)
})

test('retention says in a dry run what would go and why, and then removes that and nothing else', async () => {
  const clock = new FakeClock()
  const retention = { ...RETENTION, tags: ['pr-*'], keepPushed: 1, pushedWithinMs: 60_000 }
  await using hosted = await start({ policy: { retention }, clock })
  const config = await pushBlob(hosted, '{}')
  for (const [version, tag] of ['pr-1', 'pr-2', 'main'].entries()) {
    assert.equal((await pushTag(hosted, tag, imageOf(config, version))).status, 201)
    clock.advance(1000)
  }
  // Less than the time to the first round of the daemon itself.
  clock.advance(120_000)
  await hosted.ageHolds()
  const dry = await linesOf(hosted, 'collect?dry-run=true')
  const tags = dry.filter(line => line['event'] === 'tag')
  assert.deepEqual(
    new Set(tags.map(({ image, isKept, why }) => `${String(image)} ${String(isKept)} ${String(why)}`)),
    new Set([
      `${NAME}:main true no rule speaks of it`,
      `${NAME}:pr-1 false no rule keeps it`,
      `${NAME}:pr-2 true it is one of the 1 pushed last`,
    ]),
  )
  assert.equal((await hosted.send('GET', `/v2/${NAME}/manifests/pr-1`)).status, 200)
  await linesOf(hosted, 'collect')
  assert.equal((await hosted.send('GET', `/v2/${NAME}/manifests/pr-1`)).status, 404)
  assert.equal(
    (await hosted.send('GET', `/v2/${NAME}/manifests/${digestOf(imageOf(config, 0))}`)).status,
    404,
  )
  assert.equal((await hosted.send('GET', `/v2/${NAME}/manifests/pr-2`)).status, 200)
})

test('the daemon itself collects what nothing names once its claims have ended, and says so in a dry run before', async () => {
  const clock = new FakeClock()
  await using hosted = await start({ clock })
  const config = await pushBlob(hosted, '{}')
  assert.equal((await pushTag(hosted, 'latest', imageOf(config, 1))).status, 201)
  const unnamed = await pushBlob(hosted, 'never named')
  const statusOf = async (digest: Digest): Promise<number> =>
    (await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).status
  assert.deepEqual(await linesOf(hosted, 'collect?dry-run=true'), [
    { event: 'done', tags: 0, objects: 0, bytes: 0 },
  ])
  clock.advance(2 * DAY_MS)
  await hosted.ageHolds()
  const dry = await linesOf(hosted, 'collect?dry-run=true')
  assert.partialDeepStrictEqual(dry[0], {
    event: 'content',
    digest: unnamed,
    repositories: [NAME],
    why: 'no manifest names it, and no claim holds it',
  })
  await until(async () => {
    // A run that such a jump meets in its middle is given up, and succeeded by the next.
    const isRunning = (await jobsOf(hosted)).some(({ state }) => state === 'running')
    await hosted.ageRuns()
    clock.advance(isRunning ? 10_000 : DAY_MS / 4)
    return collectedIn(hosted).length === 1
  }, 'the blob is collected')
  assert.deepEqual(
    (await jobsOf(hosted)).map(({ job }) => job),
    ['retention', 'collection'],
  )
  assert.equal(await statusOf(unnamed), 404)
  assert.equal(await statusOf(config), 200)
})

async function jobsOf(hosted: HostedMirror): Promise<DaemonReport['jobs']> {
  const { body } = await hosted.admin('GET', '/_admin/v1/status')
  return (JSON.parse(body.toString()) as DaemonReport).jobs
}

function collectedIn(hosted: HostedMirror): readonly unknown[] {
  return hosted.log.filter(line => line['msg'] === 'collected: no hosted repository needs it')
}

test('no removal from the cache takes what a hosted repository holds, under whatever name it is asked for', async () => {
  await using hosted = await start({})
  const config = await pushBlob(hosted, '{}')
  const image = imageOf(config, 1)
  assert.equal((await pushTag(hosted, 'latest', image)).status, 201)
  const manifest = digestOf(image)
  for (const name of [NAME, 'docker.io/library/alpine']) {
    for (const path of [`blobs/${config}`, `blobs/${manifest}`, `manifests/${manifest}`])
      await hosted.admin('DELETE', `/_admin/${name}/${path}`)
    for (const reference of [':latest', `@${manifest}`])
      await hosted.admin('DELETE', `/_admin/v1/images?image=${name}${reference}`)
  }
  await hosted.admin('POST', '/_admin/v1/evict?bytes=1000000')
  assert.equal((await hosted.send('GET', `/v2/${NAME}/blobs/${config}`)).body.toString(), '{}')
  assert.deepEqual((await hosted.send('GET', `/v2/${NAME}/manifests/latest`)).body, image)
  await hosted.restart()
  assert.equal((await hosted.send('GET', `/v2/${NAME}/blobs/${config}`)).body.toString(), '{}')
  assert.deepEqual((await hosted.send('GET', `/v2/${NAME}/manifests/latest`)).body, image)
})

test('hosted images are in the lists of the API and of the page, also after the index was lost', async () => {
  await using hosted = await start({})
  const config = await pushBlob(hosted, '{}')
  await pushTag(hosted, 'v1', imageOf(config, 1))
  await pushTag(hosted, 'v2', imageOf(config, 2))
  const listed = async (): Promise<readonly unknown[]> => {
    const { body } = await hosted.admin('GET', '/_admin/v1/images?kind=hosted')
    const { images } = JSON.parse(body.toString()) as { readonly images: readonly Record<string, unknown>[] }
    return images.map(({ image, isWhole, isHosted }) => [image, isWhole, isHosted])
  }
  const both = [`${NAME}:v1`, `${NAME}:v2`].map(image => [image, true, true])
  assert.deepEqual(await listed(), both)
  const page = async (query: string): Promise<string> =>
    (await hosted.admin('GET', `/images?${query}`)).body.toString()
  assert.match(
    await page('kind=hosted&q=app:v2&sort=size'),
    /team\/app:v2<\/a>[^]*, whole<\/td>[^]*<td>hosted<\/td>/,
  )
  assert.match(await page('kind=cached'), /No image matches/)
  await hosted.restart({ isIndexLost: true })
  await until(async () => isDeepStrictEqual(await listed(), both), 'the walk to find both')
  const digest = digestOf(imageOf(config, 1))
  assert.equal((await hosted.send('DELETE', `/v2/${NAME}/manifests/v1`)).status, 202)
  assert.deepEqual(await listed(), [[`${NAME}@${digest}`, true, true], both[1]])
  assert.equal((await hosted.send('DELETE', `/v2/${NAME}/manifests/${digest}`)).status, 202)
  assert.deepEqual(await listed(), both.slice(1))
  // Patterns remove what is cached, and nothing that was pushed.
  await hosted.admin('POST', '/_admin/v1/remove')
  assert.deepEqual(await listed(), both.slice(1))
})
