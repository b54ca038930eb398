import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { runCommandLine } from '../rig.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
let directory = ''
let file = ''

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'entrepot-rules-'))
  file = join(directory, 'gate.yaml')
  const text = `admission:
  default: deny
  allow: [nginx, 'ghcr.io/acme/app:v*', 'quay.io/pinned@${DIGEST}']
  deny: [ghcr.io/acme/app:v0*, {names: 'nginx@sha256:bb*', reason: it is broken}]
`
  await writeFile(file, text)
  await writeFile(join(directory, 'warn.yaml'), text.replace('default', 'mode: warn\n  default'))
})

after(async () => {
  await rm(directory, { recursive: true })
})

const VERIFIED: readonly (readonly [image: string, digest: string, code: number, reason: string])[] = [
  ['docker.io/library/nginx:1.25', DIGEST, 0, ''],
  ['ghcr.io/acme/app:v1', DIGEST, 0, ''],
  ['quay.io/pinned:latest', DIGEST, 0, ''],
  ['quay.io/pinned:latest', `sha256:${'c'.repeat(64)}`, 1, 'no rule allows it'],
  ['ghcr.io/acme/app:v0.1', DIGEST, 1, 'the rules deny ghcr.io/acme/app:v0*'],
  ['docker.io/library/nginx:1.25', `sha256:${'b'.repeat(64)}`, 1, 'it is broken'],
  ['docker.io.evil.com/library/nginx:1.25', DIGEST, 1, 'no rule allows it'],
]

for (const [image, digest, code, reason] of VERIFIED) {
  test(`verify-image ends with ${code} for ${image} at ${digest.slice(0, 10)}, as containerd calls it`, async () => {
    const flags = ['-name', image, '-digest', digest, '-stdin-media-type', 'application/json']
    const ran = await runCommandLine(['verify-image', ...flags], { env: { ENTREPOT_ADMISSION_FILE: file } })
    assert.deepEqual([ran.code, ran.stderr], [code, ''])
    assert.equal(ran.stdout, code === 0 ? '' : `image "${image}" is refused: ${reason}\n`)
  })
}

test('verify-image lets an image through in warn mode, with the reason', async () => {
  const flags = ['-name', 'redis', '-digest', DIGEST, '--file', join(directory, 'warn.yaml')]
  const { code, stdout } = await runCommandLine(['verify-image', ...flags])
  assert.deepEqual([code, stdout], [0, 'image "redis" is refused: no rule allows it\n'])
})

for (const [flags, sentence] of [
  [['-digest', DIGEST], '--name: is missing'],
  [['-name', 'nginx', '-digest', 'sha256:abc'], '--digest: is not a digest'],
  [['-name', 'nginx', '-file', '/nowhere'], '/nowhere: cannot be read: ENOENT'],
] as const) {
  test(`verify-image blocks where it cannot tell, and says why on both outputs: ${sentence}`, async () => {
    const { code, stdout, stderr } = await runCommandLine(['verify-image', ...flags])
    assert.equal(code, 2)
    assert.ok(stdout.includes(sentence) && stderr.includes(sentence), stdout)
  })
}

test('policy prints a policy and its binding, with an action for each mode', async () => {
  const flags = ['--kubernetes', '--name', 'images', '--exclude-namespace', 'kube-system']
  for (const [name, action] of [
    ['gate.yaml', 'Deny'],
    ['warn.yaml', 'Warn'],
  ] as const) {
    const path = join(directory, name)
    const { code, stdout } = await runCommandLine(['policy', '--upstream-config-file', path, ...flags])
    assert.equal(code, 0)
    const [policy, binding] = parseAllDocuments(stdout).map(document => document.toJS() as PolicyObject)
    assert.equal(policy?.kind, 'ValidatingAdmissionPolicy')
    assert.deepEqual(binding?.spec.validationActions, [action])
    const [selector] = binding.spec.matchResources?.namespaceSelector.matchExpressions ?? []
    assert.deepEqual(selector?.values, ['kube-system'])
  }
})

interface PolicyObject {
  readonly kind: string
  readonly spec: {
    readonly validationActions?: readonly string[]
    readonly matchResources?: {
      readonly namespaceSelector: {
        readonly matchExpressions: readonly { readonly values: readonly string[] }[]
      }
    }
  }
}

for (const [flags, sentence] of [
  [['--upstream-config-file', 'x'], '--kubernetes: is missing'],
  [['--kubernetes'], '--upstream-config-file: is missing'],
  [['--kubernetes', '--name', 'Not', '--upstream-config-file', 'x'], '--name: is not a name of an object'],
] as const) {
  test(`policy ${flags.join(' ')} is refused: ${sentence}`, async () => {
    const { code, stderr } = await runCommandLine(['policy', ...flags])
    assert.equal(code, 2)
    assert.ok(stderr.includes(sentence), stderr)
  })
}
