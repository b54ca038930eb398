import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { loadUpstreams } from '../../../src/config/file/upstreams.ts'
import { ConfigError } from '../../../src/config/problem.ts'

async function load(t: TestContext, warm: string): ReturnType<typeof loadUpstreams> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-warm-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const file = join(directory, 'u')
  await writeFile(file, `warm:\n${warm}`)
  return await loadUpstreams(file, new Map())
}

test('an entry without a choice of tags means latest, every six hours, for all platforms', async t => {
  const { sections } = await load(t, '- image: docker.io/library/alpine\n')
  assert.deepEqual(sections.warm, [
    {
      image: 'docker.io/library/alpine',
      patterns: ['latest'],
      semver: undefined,
      newest: undefined,
      platforms: [],
      intervalMs: 6 * 3_600_000,
    },
  ])
})

test('an entry with versions looks at all tags', async t => {
  const text =
    "- image: alpine\n  semver: '>=3.18 <4'\n  newest: 3\n  platforms: [linux/amd64]\n  interval: 1h\n"
  const { sections } = await load(t, text)
  assert.deepEqual(sections.warm, [
    {
      image: 'alpine',
      patterns: [],
      semver: '>=3.18 <4',
      newest: 3,
      platforms: ['linux/amd64'],
      intervalMs: 3_600_000,
    },
  ])
})

for (const [text, message] of [
  [
    '- image: alpine:3.20\n',
    /warm\[0\]\.image is not the name of an image without a tag: "alpine:3\.20" \(such as/,
  ],
  ['- image: alpine\n  semver: newest\n', /warm\[0\]\.semver is not a range of versions/],
  ['- image: alpine\n  interval: 10s\n', /warm\[0\]\.interval is not a duration of at least 1m/],
  ['- image: alpine\n  platforms: [linux]\n', /warm\[0\]\.platforms\[0\] is not a platform/],
  ["- image: alpine\n  tags: ['a b']\n", /warm\[0\]\.tags\[0\] is not a pattern of tags/],
  ['- image: alpine\n  newest: 0\n', /warm\[0\]\.newest must be at least 1/],
  ['- imag: alpine\n', /warm\[0\]\.imag is not a known key \(did you mean image\?\)/],
] as const) {
  test(`${JSON.stringify(text)} is refused with the place and the reason`, async t => {
    await assert.rejects(load(t, text), (error: unknown) => {
      assert.ok(error instanceof ConfigError)
      assert.match(error.message, message)
      return true
    })
  })
}
