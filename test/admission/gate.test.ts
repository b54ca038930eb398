import assert from 'node:assert/strict'
import { request } from 'node:https'
import { after, before, test } from 'node:test'
import { createAdmissionMetrics } from '../../src/admission/admission-metrics.ts'
import type { AdmissionResponse } from '../../src/admission/answer.ts'
import { ImageJudge } from '../../src/admission/judge.ts'
import { type OpenGate, openGate } from '../../src/admission/open-gate.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { openLog } from '../../src/observe/log.ts'
import type { AdmissionRules } from '../../src/oci/rules/admission-rules.ts'
import { tlsTerms } from '../support/certificates/listener-tls.ts'
import { readCertificate } from '../support/upstream.ts'
import { podReview } from './reviews.ts'
import { admissionRules } from './rules.ts'

const ENFORCE = admissionRules('default: deny\nallow: [nginx, ghcr.io]')

let gate: OpenGate
let rules: AdmissionRules = ENFORCE
let isReady = true
const lines: string[] = []

before(async () => {
  const log = openLog('debug', { write: line => void lines.push(line) })
  const metrics = createAdmissionMetrics()
  const parts = {
    judge: () => new ImageJudge(rules),
    metrics,
    log,
    clock: systemClock,
    isReady: () => isReady,
  }
  gate = await openGate(parts, { kind: 'tcp', host: '127.0.0.1', port: 0 }, tlsTerms())
})

after(async () => {
  await gate[Symbol.asyncDispose]()
})

interface Answered {
  readonly status: number
  readonly text: string
}

async function ask(path: string, method: string, body?: string): Promise<Answered> {
  const { promise, resolve, reject } = Promise.withResolvers<Answered>()
  const [host, port] = gate.address.split(':')
  const options = {
    host,
    port,
    path,
    method,
    ca: readCertificate('ca.pem'),
    servername: 'localhost',
    agent: false,
  }
  const asked = request(options, response => {
    const pieces: Buffer[] = []
    response.on('data', (piece: Buffer) => pieces.push(piece))
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, text: Buffer.concat(pieces).toString() }),
    )
  })
  asked.on('error', reject)
  asked.end(body)
  return await promise
}

async function review(body: object, path = '/validate?timeout=10s'): Promise<AdmissionResponse> {
  const { status, text } = await ask(path, 'POST', JSON.stringify(body))
  assert.equal(status, 200, text)
  const answer = JSON.parse(text) as { apiVersion: string; kind: string; response: AdmissionResponse }
  assert.equal(answer.apiVersion, 'admission.k8s.io/v1')
  assert.equal(answer.kind, 'AdmissionReview')
  return answer.response
}

test('a Pod of allowed images is allowed, by the uid of its review', async () => {
  const spec = { containers: [{ name: 'web', image: 'nginx:1.25' }] }
  assert.deepEqual(await review(podReview({ spec })), { uid: 'the-uid', allowed: true })
})

const PLACES = [
  ['a container', { containers: [{ image: 'nginx' }, { image: 'evil.com/x' }] }],
  ['an init container', { containers: [{ image: 'nginx' }], initContainers: [{ image: 'evil.com/x' }] }],
  ['an ephemeral container', { containers: [], ephemeralContainers: [{ image: 'evil.com/x' }] }],
  ['an image volume', { containers: [], volumes: [{ name: 'a' }, { image: { reference: 'evil.com/x' } }] }],
] as const

for (const [place, spec] of PLACES) {
  test(`the image of ${place} is judged`, async () => {
    const { allowed, status } = await review(podReview({ spec }))
    assert.equal(allowed, false)
    const message = 'image "evil.com/x" is refused: no rule allows it'
    assert.deepEqual(status, { code: 403, reason: 'Forbidden', message })
  })
}

test('an update is judged by the images that it adds, so that a Pod of other times can be let go', async () => {
  const before = { containers: [{ image: 'evil.com/old' }] }
  const same = await review(podReview({ operation: 'UPDATE', spec: before, oldSpec: before }))
  assert.equal(same.allowed, true)
  const spec = { ...before, ephemeralContainers: [{ image: 'evil.com/debug' }] }
  const added = await review(podReview({ operation: 'UPDATE', spec, oldSpec: before }))
  assert.equal(added.status?.message, 'image "evil.com/debug" is refused: no rule allows it')
})

test('a deletion is allowed: it has no object', async () => {
  const deletion = podReview({ operation: 'DELETE', spec: undefined })
  assert.deepEqual(await review(deletion), { uid: 'the-uid', allowed: true })
})

test('warn lets a Pod through with warnings, audit with an annotation alone', async () => {
  const spec = { containers: [{ image: 'evil.com/x' }] }
  const auditAnnotations = { 'refused-images': 'evil.com/x' }
  try {
    rules = { ...ENFORCE, mode: 'warn' }
    const warnings = ['image "evil.com/x" is refused: no rule allows it']
    assert.deepEqual(await review(podReview({ spec })), {
      uid: 'the-uid',
      allowed: true,
      warnings,
      auditAnnotations,
    })
    rules = { ...ENFORCE, mode: 'audit' }
    assert.deepEqual(await review(podReview({ spec })), { uid: 'the-uid', allowed: true, auditAnnotations })
  } finally {
    rules = ENFORCE
  }
})

test('the template of a workload brings a warning, and never a denial', async () => {
  const template = { spec: { containers: [{ image: 'evil.com/x' }] } }
  const deployment = podReview({ kind: 'Deployment', spec: { template } })
  const job = podReview({ kind: 'CronJob', spec: { jobTemplate: { spec: { template } } } })
  for (const body of [deployment, job]) {
    const { allowed, warnings } = await review(body)
    assert.equal(allowed, true)
    assert.deepEqual(warnings, ['image "evil.com/x" is refused: no rule allows it'])
  }
})

test('an object without images is allowed', async () => {
  assert.equal((await review(podReview({ kind: 'Service', spec: {} }))).allowed, true)
})

test('a creation without an object is refused with its uid in enforce mode, and let through in the others', async () => {
  const body = podReview({ spec: undefined })
  const { uid, allowed, status } = await review(body)
  assert.deepEqual([uid, allowed, status?.code], ['the-uid', false, 400])
  try {
    rules = { ...ENFORCE, mode: 'warn' }
    assert.equal((await review(body)).allowed, true)
  } finally {
    rules = ENFORCE
  }
})

test('a Pod with more different images than are judged is refused in enforce mode alone', async () => {
  const containers = Array.from({ length: 2001 }, (_, index) => ({ image: `nginx:${index}` }))
  const body = podReview({ spec: { containers } })
  const { allowed, status } = await review(body)
  assert.deepEqual([allowed, status?.code], [false, 400])
  assert.equal((await review(podReview({ spec: { containers: containers.slice(1) } }))).allowed, true)
  try {
    rules = { ...ENFORCE, mode: 'warn' }
    const warned = await review(body)
    assert.deepEqual(warned.warnings, ['it has 2001 different images, and 2000 are judged'])
  } finally {
    rules = ENFORCE
  }
})

const REFUSED = [
  ['another version', JSON.stringify({ ...podReview({ spec: {} }), apiVersion: 'admission.k8s.io/v1beta1' })],
  ['another kind', JSON.stringify({ ...podReview({ spec: {} }), kind: 'Pod' })],
  ['no request', JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' })],
  ['no JSON', '{"apiVersion":'],
  ['a list', '[]'],
  ['nothing', ''],
] as const

for (const [what, body] of REFUSED) {
  test(`a body with ${what} is answered 400 with a sentence`, async () => {
    const { status, text } = await ask('/validate', 'POST', body)
    assert.equal(status, 400)
    assert.match(text, /^(?:this|the body) .+\n$/)
  })
}

test('a review of another version is told which one is answered', async () => {
  const { text } = await ask('/validate', 'POST', REFUSED[0][1])
  assert.equal(
    text,
    'this AdmissionReview is of version "admission.k8s.io/v1beta1"; only admission.k8s.io/v1 is answered\n',
  )
})

test('a review of 3 MB is judged like any other', async () => {
  const env = [{ name: 'LARGE', value: 'x'.repeat(3 * 1024 * 1024) }]
  const spec = { containers: [{ image: 'nginx', env }, { image: 'evil.com/x' }] }
  assert.equal((await review(podReview({ spec }))).allowed, false)
})

test('a thousand containers are judged, and the message stays short', async () => {
  const containers = Array.from({ length: 1000 }, (_, index) => ({ image: `evil.com/app-${index}` }))
  const { allowed, status } = await review(podReview({ spec: { containers } }))
  assert.equal(allowed, false)
  assert.match(status?.message ?? '', /evil\.com\/app-9".*; and so are 990 more images$/)
  const good = Array.from({ length: 1000 }, (_, index) => ({ image: `ghcr.io/acme/app-${index}` }))
  assert.equal((await review(podReview({ spec: { containers: good } }))).allowed, true)
})

test('odd objects are no reason to fail', async () => {
  const odd = { containers: ['nginx', null, 7, { image: 5 }], volumes: 'none', initContainers: { a: 1 } }
  const { allowed, status } = await review(podReview({ spec: odd }))
  assert.equal(allowed, false)
  assert.equal(status?.message, 'image "" is refused: this is not the name of an image')
})

test('probes and metrics are answered, and readiness ends while the gate stops', async () => {
  assert.deepEqual(await ask('/livez', 'GET'), { status: 200, text: 'ok\n' })
  isReady = false
  assert.equal((await ask('/readyz', 'GET')).status, 503)
  isReady = true
  assert.equal((await ask('/readyz', 'GET')).status, 200)
  assert.equal((await ask('/validate', 'GET')).status, 405)
  assert.equal((await ask('/other', 'POST')).status, 404)
  const { text } = await ask('/metrics', 'GET')
  assert.match(text, /^entrepot_admission_reviews_total\{path="validate",verdict="denied"\} [1-9]/m)
  assert.match(text, /^entrepot_admission_refused_requests_total\{status="400"\} [1-9]/m)
})

test('the log names the images that were refused, and who wanted them', async () => {
  lines.length = 0
  await review(podReview({ spec: { containers: [{ image: 'evil.com/logged' }] } }))
  const line = JSON.parse(lines.join('')) as Record<string, unknown>
  assert.equal(line['msg'], 'images refused')
  assert.deepEqual(line['images'], ['evil.com/logged'])
  assert.deepEqual([line['namespace'], line['user'], line['verdict']], ['default', 'alice', 'denied'])
})
