import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ImageJudge } from '../../src/admission/judge.ts'
import { parseReview } from '../../src/admission/review.ts'
import { type Rewriting, rewriteImage, rewriteReview } from '../../src/admission/rewrite.ts'
import type { Namespace } from '../../src/oci/namespace.ts'
import { ADMISSION_TABLE } from '../support/admission-table.ts'
import { podReview, type ReviewedObject } from './reviews.ts'
import { admissionRules } from './rules.ts'

const MIRROR = 'mirror.example.com:8443'
const ALL: Rewriting = { mirror: MIRROR as Namespace, registries: 'all' }
const DIGEST = `sha256:${'a'.repeat(64)}`

const REWRITTEN: readonly (readonly [string, string | undefined])[] = [
  ['nginx', `${MIRROR}/docker.io/library/nginx`],
  ['nginx:1.25', `${MIRROR}/docker.io/library/nginx:1.25`],
  [`acme/app:v1@${DIGEST}`, `${MIRROR}/docker.io/acme/app:v1@${DIGEST}`],
  ['index.docker.io/nginx', `${MIRROR}/docker.io/library/nginx`],
  ['GHCR.io/acme/app', `${MIRROR}/ghcr.io/acme/app`],
  ['reg.lan:5555/app:2', `${MIRROR}/reg.lan_5555/app:2`],
  ['[::1]:5000/app', undefined],
  [`${MIRROR}/docker.io/library/nginx`, undefined],
  ['not an image', undefined],
  ['', undefined],
]

for (const [image, wanted] of REWRITTEN) {
  test(`the image ${JSON.stringify(image)} ${wanted === undefined ? 'is left alone' : `becomes ${wanted}`}`, () => {
    assert.equal(rewriteImage(ALL, image), wanted)
  })
}

test('only the registries that are named are rewritten', () => {
  const some = { ...ALL, registries: ['ghcr.io'] as readonly string[] as readonly Namespace[] }
  assert.equal(rewriteImage(some, 'nginx'), undefined)
  assert.equal(rewriteImage(some, 'ghcr.io/a/b'), `${MIRROR}/ghcr.io/a/b`)
})

test('an image that was rewritten gets the verdict of what it stands for', () => {
  for (const { section, allowed, denied, namespace = 'default' } of ADMISSION_TABLE) {
    const rules = admissionRules(section)
    const judge = new ImageJudge({ ...rules, mirrors: [...rules.mirrors, ALL.mirror] })
    for (const image of [...allowed, ...denied]) {
      const rewritten = rewriteImage(ALL, image)
      if (rewritten === undefined) continue
      const [before, after] = [image, rewritten].map(name => judge.judge(name, namespace).isAllowed)
      assert.equal(after, before, `${image} and ${rewritten}`)
    }
  }
})

function patchOf(reviewed: ReviewedObject, annotations: object = {}): unknown {
  const body = JSON.stringify(podReview(reviewed)).replace(
    '"metadata":{',
    `"metadata":{"annotations":${JSON.stringify(annotations)},`,
  )
  const { response } = rewriteReview(ALL, parseReview(body))
  assert.equal(response.allowed, true)
  if (response.patch === undefined) return undefined
  assert.equal(response.patchType, 'JSONPatch')
  return JSON.parse(Buffer.from(response.patch, 'base64').toString())
}

test('the patch replaces every image where it stands, the same one twice if it is there twice', () => {
  const spec = {
    initContainers: [{ image: 'ghcr.io/a/b' }],
    containers: [{ image: 'nginx' }, { image: `${MIRROR}/x` }, { image: 'nginx' }],
    volumes: [{ name: 'a' }, { image: { reference: 'quay.io/c/d' } }],
  }
  assert.deepEqual(patchOf({ spec }), [
    { op: 'replace', path: '/spec/initContainers/0/image', value: `${MIRROR}/ghcr.io/a/b` },
    { op: 'replace', path: '/spec/containers/0/image', value: `${MIRROR}/docker.io/library/nginx` },
    { op: 'replace', path: '/spec/containers/2/image', value: `${MIRROR}/docker.io/library/nginx` },
    { op: 'replace', path: '/spec/volumes/1/image/reference', value: `${MIRROR}/quay.io/c/d` },
  ])
})

test('the object of a static Pod, a workload and a deletion are left alone', () => {
  const spec = { containers: [{ image: 'nginx' }] }
  assert.equal(patchOf({ spec }, { 'kubernetes.io/config.mirror': 'abc' }), undefined)
  assert.equal(patchOf({ kind: 'Deployment', spec: { template: { spec } } }), undefined)
  assert.equal(patchOf({ operation: 'DELETE', spec: undefined }), undefined)
})

test('a manifest that is applied again means the images that are there already', () => {
  const spec = { containers: [{ image: 'nginx' }] }
  const oldSpec = { containers: [{ image: `${MIRROR}/docker.io/library/nginx` }] }
  const path = '/spec/containers/0/image'
  const value = `${MIRROR}/docker.io/library/nginx`
  assert.deepEqual(patchOf({ operation: 'UPDATE', spec, oldSpec }), [{ op: 'replace', path, value }])
})
