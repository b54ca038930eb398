import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { DaemonReport, WarmingReport } from '../../src/admin/contract.ts'
import { runCommandLine } from '../cli/rig.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

async function fileOf(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-warming-'))
  t.after(async () => await rm(directory, { recursive: true }))
  return join(directory, 'upstreams.yaml')
}

function fileText(upstream: FakeUpstream, warm: string): string {
  return `upstreams:\n- namespace: docker.io\n  host: ${upstream.host}\n  tls: false\nwarm:\n${warm}`
}

async function warmingOf(mirror: TestMirror): Promise<WarmingReport | undefined> {
  const { body } = await mirror.admin('GET', '/_admin/v1/status')
  return (JSON.parse(body.toString()) as DaemonReport).warming[0]
}

async function over(mirror: TestMirror): Promise<WarmingReport> {
  let report: WarmingReport | undefined
  await until(async () => {
    report = await warmingOf(mirror)
    return report?.lastAt !== undefined && !report.isRunning
  }, 'the warming is over')
  assert.ok(report !== undefined)
  return report
}

/** Counts the requests for the manifest of a tag. */
function asked(upstream: FakeUpstream, tag: string): number {
  return upstream.count({ path: `/v2/team/app/manifests/${tag}` })
}

test('tags of a range of versions are warmed when a reload brings the section, and then at each interval', async t => {
  await using upstream = await startUpstream()
  for (const tag of ['1.9', '2.0', '2.1.3', '2.2-slim', 'latest'])
    upstream.tag(
      'team/app',
      tag,
      upstream.putImage({ layers: [randomBytes(1000)], config: { tag } }).manifest,
    )
  const file = await fileOf(t)
  await writeFile(file, fileText(upstream, '- image: team/app\n  semver: ">=2"\n  interval: 1h\n'))
  const clock = new FakeClock()
  await using mirror = await startMirror({
    upstream: upstream.host,
    config: { upstreamConfigFile: file },
    overrides: { clock },
  })
  assert.equal(await warmingOf(mirror), undefined)
  const reloaded = mirror.daemon.reload()
  await until(() => {
    clock.advance(1000)
    return asked(upstream, '2.0') > 0
  }, 'the first tag is asked for')
  await reloaded
  const report = await over(mirror)
  assert.deepEqual(
    [report.image, report.tags, report.images, report.doneImages, report.failedImages, report.message],
    ['team/app', '>=2', 2, 2, 0, undefined],
  )
  const { body } = await mirror.admin('GET', '/_admin/v1/images')
  const { images } = JSON.parse(body.toString()) as { readonly images: readonly object[] }
  assert.deepEqual(
    images.map(image => [(image as { image: string }).image, (image as { isWhole: boolean }).isWhole]),
    [
      ['docker.io/team/app:2.0', true],
      ['docker.io/team/app:2.1.3', true],
    ],
  )
  const before = asked(upstream, '2.0')
  clock.advance(59 * 60_000)
  await mirror.admin('GET', '/_admin/v1/status')
  assert.equal(asked(upstream, '2.0'), before)
  clock.advance(2 * 60_000)
  await until(() => asked(upstream, '2.0') > before, 'it is asked for again after the interval')
  const env = { ENTREPOT_ADMIN: `http://${mirror.daemon.addresses.admin}` }
  await over(mirror)
  const { stdout } = await runCommandLine(['status'], { env })
  assert.match(stdout, /\nwarming {3}1\n {2}team\/app: >=2 {2}2 of 2, next in \d+ (?:s|min)\n/)
})

test('a tag that fails is reported with its reason, and the others are warmed all the same', async t => {
  await using upstream = await startUpstream()
  upstream.tag('team/app', 'here', upstream.putImage({ layers: [] }).manifest)
  const file = await fileOf(t)
  await writeFile(file, fileText(upstream, '- image: team/app\n  tags: [gone, here]\n'))
  await using mirror = await startMirror({ upstream: upstream.host, config: { upstreamConfigFile: file } })
  await mirror.daemon.reload()
  const report = await over(mirror)
  assert.deepEqual([report.doneImages, report.failedImages], [1, 1])
  assert.match(report.message ?? '', /^gone: docker\.io\/team\/app has no manifest gone$/)
  assert.ok(mirror.log.some(({ msg }) => msg === 'scheduled warming did not cache everything'))
})

test('a registry that allows few more pulls is left to its clients', async t => {
  await using upstream = await startUpstream()
  for (const tag of ['a', 'b'])
    upstream.tag('team/app', tag, upstream.putImage({ layers: [], config: { tag } }).manifest)
  upstream.on(
    { path: /manifests/ },
    { headers: { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '3;w=21600' } },
  )
  const file = await fileOf(t)
  await writeFile(file, fileText(upstream, '- image: team/app\n  tags: [a, b]\n'))
  await using mirror = await startMirror({ upstream: upstream.host, config: { upstreamConfigFile: file } })
  await mirror.daemon.reload()
  const report = await over(mirror)
  assert.equal(report.message, 'stopped early: the registry allows few more pulls')
  assert.equal(asked(upstream, 'b'), 0)
})
