import assert from 'node:assert/strict'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { parse } from 'yaml'
import { need, ROOT, run, runOk, skipWithout } from './rig/tools.ts'

const RELEASE = join(ROOT, '.ci/release')
const OUT = join(ROOT, 'dist-release')
const DRY = { DRY_RUN: '1', RELEASE_REGISTRY: 'ghcr.io/Owner' }
const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string }

interface Workflow {
  readonly env: Readonly<Record<string, string>>
  readonly jobs: Readonly<
    Record<
      string,
      {
        readonly permissions?: Readonly<Record<string, string>>
        readonly steps: readonly { readonly run?: string; readonly uses?: string }[]
      }
    >
  >
}

describe('a release', { skip: skipWithout('bash', 'helm', 'git', 'npm') }, () => {
  test('every file agrees with the tag of this version, and no other tag passes', async () => {
    const good = await run([RELEASE, 'verify', `v${version}`])
    assert.equal(good.code, 0, good.stderr)
    for (const tag of ['v99.0.0', version, `v${version}-`, 'v1']) {
      const bad = await run([RELEASE, 'verify', tag])
      assert.equal(bad.code, 1, tag)
      assert.match(bad.stderr, /^release: /m)
    }
  })

  test('the image is for two architectures, with SBOM and provenance, and is signed, in one place', async () => {
    const said = await runOk([RELEASE, 'image', `v${version}`], { env: DRY })
    assert.match(said, /--platform linux\/amd64,linux\/arm64 /)
    assert.match(said, /--provenance mode=max --sbom true/)
    assert.match(said, new RegExp(`--tag ghcr\\.io/owner/entrepot:${version} `))
    assert.match(said, /cosign sign --yes ghcr\.io\/owner\/entrepot@/)
    const without = await run([RELEASE, 'image', `v${version}`], {
      env: { DRY_RUN: '1', RELEASE_REGISTRY: '' },
    })
    assert.match(without.stderr, /RELEASE_REGISTRY is not set/)
  })

  test('the package has an SBOM of what it installs, and no development dependency in it', async () => {
    const said = await runOk([RELEASE, 'package', `v${version}`], { env: DRY, limitMs: 240_000 })
    assert.match(said, /npm publish .* --provenance/)
    const text = await readFile(join(OUT, `entrepot-${version}.npm.spdx.json`), 'utf8')
    const { packages } = JSON.parse(text) as { readonly packages: readonly { readonly name: string }[] }
    const names = new Set(packages.map(({ name }) => name))
    const { dependencies } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
      readonly dependencies: Readonly<Record<string, string>>
    }
    assert.deepEqual(
      Object.keys(dependencies).filter(name => !names.has(name)),
      [],
    )
    assert.ok(!names.has('typescript') && !names.has('knip'))
  })

  test('the packaged chart renders the image of its version', async () => {
    await runOk([RELEASE, 'chart', `v${version}`], { env: DRY })
    const chart = join(OUT, `chart/entrepot-${version}.tgz`)
    const text = await runOk([
      need('helm'),
      'template',
      'release',
      chart,
      '--kube-version',
      '1.34.0',
      '--set',
      'image.registry=r.example',
    ])
    assert.match(text, new RegExp(`image: r\\.example/entrepot:${version}$`, 'm'))
    await rm(OUT, { recursive: true })
  })
})

test('the workflow runs every step of the release, checks first, and may sign where it signs', async () => {
  const { jobs, env } = parse(
    await readFile(join(ROOT, '.github/workflows/release.yaml'), 'utf8'),
  ) as Workflow
  assert.match(env['RELEASE_REGISTRY'] ?? '', /repository_owner/)
  const commands = Object.values(jobs).flatMap(({ steps }) =>
    steps.flatMap(({ run: command }) => command ?? []),
  )
  for (const step of ['verify', 'image', 'package', 'chart'])
    assert.ok(
      commands.some(command => command.startsWith(`.ci/release ${step} `)),
      step,
    )
  assert.ok(commands.includes('npm run check'))
  for (const [name, { permissions, steps }] of Object.entries(jobs)) {
    const isPublishing = steps.some(({ run: command }) => /^\.ci\/release (?!verify)/.test(command ?? ''))
    assert.equal(permissions?.['id-token'] === 'write', isPublishing, name)
  }
})
