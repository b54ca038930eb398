import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Health } from '../../src/observe/health.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { UpstreamError } from '../../src/oci/error.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'

const DIGEST = `sha256:${'a'.repeat(64)}` as Digest

function healthAt(): { readonly health: Health; readonly clock: { nowMs: number } } {
  const clock = { nowMs: 1000 }
  return { health: new Health(() => clock.nowMs), clock }
}

test('a budget resets one window after its first answer, however often it is stated, and anew when it has grown', () => {
  const { health, clock } = healthAt()
  const seen = (remaining: number, windowMs: number | undefined = 100): void =>
    health.take({
      kind: 'rate-limit-seen',
      details: { namespace: DOCKER_HUB, remaining, limit: 10, windowMs },
    })
  const resets = (): number | undefined => health.registries.get(DOCKER_HUB)?.budget?.resetsAtMs
  seen(5)
  assert.equal(resets(), 1100)
  clock.nowMs = 1050
  seen(4)
  assert.equal(resets(), 1100)
  clock.nowMs = 1120
  seen(9)
  assert.equal(resets(), 1220)
})

test('a registry that is left alone keeps the error for which it is', () => {
  const { health } = healthAt()
  const failed = (kind: 'connect' | 'breaker', message: string): void =>
    health.take({
      kind: 'upstream-failed',
      details: { namespace: DOCKER_HUB, verb: 'get-blob', kind, error: new UpstreamError(kind, message) },
    })
  failed('connect', 'the connection was refused')
  failed('breaker', 'it is left alone')
  assert.equal(health.registries.get(DOCKER_HUB)?.failure?.message, 'the connection was refused')
})

test('a registry that sends other bytes than it was asked for keeps that as its last error', () => {
  const { health } = healthAt()
  const error = new UpstreamError('mismatch', 'the upstream sent other bytes')
  const fill = { namespace: DOCKER_HUB, digest: DIGEST, sizeBytes: 10, durationMs: 1, resumes: 0 }
  health.take({ kind: 'fill-finished', details: { ...fill, result: 'stored', error: undefined } })
  assert.equal(health.registries.get(DOCKER_HUB)?.failure, undefined)
  health.take({ kind: 'fill-finished', details: { ...fill, result: 'mismatch', error } })
  assert.equal(health.registries.get(DOCKER_HUB)?.failure?.message, 'the upstream sent other bytes')
})

test('why the index failed is kept apart from other failures of the store', () => {
  const { health } = healthAt()
  const failed = (operation: string, message: string): void =>
    health.take({ kind: 'storage-failed', details: { operation, error: new Error(message) } })
  failed('write-tag', 'no space left on device')
  assert.equal(health.indexFailure, undefined)
  failed('index', 'database or disk is full')
  failed('write-tag', 'no space left on device')
  assert.equal(health.indexFailure, 'database or disk is full')
})
