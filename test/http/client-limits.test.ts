import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Peer } from '../../src/access/peer.ts'
import { ClientLimits } from '../../src/http/client-limits.ts'
import { OciError } from '../../src/oci/error.ts'
import { ANONYMOUS, type Identity } from '../../src/oci/identity.ts'

function peerAt(address: string | undefined): Peer {
  return { address, isEncrypted: false, certificate: undefined }
}

function named(name: string): Identity {
  return { ...ANONYMOUS, name }
}

const ONE = peerAt('10.0.0.1')
const SECOND_US = 1_000_000n

/** Limits with a clock that stands still until it is moved. */
function makeLimits(
  requestsPerSecond?: number,
  downloads?: number,
): { limits: ClientLimits; pass: (us: bigint) => void } {
  let nowUs = 5n * SECOND_US
  const limits = new ClientLimits({ requestsPerSecond, downloads }, undefined, () => nowUs)
  return {
    limits,
    pass: us => {
      nowUs += us
    },
  }
}

/** Number of requests until the first refusal, and the time that it asks for. */
function burst(
  limits: ClientLimits,
  identity = ANONYMOUS,
  peer = ONE,
): { taken: number; retryAfterMs?: number } {
  for (let taken = 0; taken < 10_000; taken += 1) {
    try {
      limits.takeRequest(identity, peer)
    } catch (error) {
      assert.ok(error instanceof OciError && error.code === 'RATE_LIMITED')
      return { taken, ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }) }
    }
  }
  return { taken: 10_000 }
}

test('a client may send ten seconds of requests at once, then as many as the limit in each second', () => {
  const { limits, pass } = makeLimits(5)
  assert.deepEqual(burst(limits), { taken: 50, retryAfterMs: 200 })
  assert.equal(burst(limits).taken, 0)
  pass(SECOND_US)
  assert.equal(burst(limits).taken, 5)
  pass(1000n * SECOND_US)
  assert.equal(burst(limits).taken, 50)
})

test('a refused request does not count', () => {
  const { limits, pass } = makeLimits(1)
  burst(limits)
  for (let index = 0; index < 1000; index += 1) burst(limits)
  pass(SECOND_US)
  assert.equal(burst(limits).taken, 1)
})

for (const [what, peers, isShared] of [
  ['two IPv4 addresses', ['10.0.0.1', '10.0.0.2'], false],
  ['two addresses of one IPv6 /64', ['2001:db8::1', '2001:db8::2'], true],
  ['two IPv6 /64', ['2001:db8:0:1::1', '2001:db8:0:2::1'], false],
  ['an IPv4 address and its mapped form', ['10.0.0.1', '::ffff:10.0.0.1'], true],
] as const) {
  test(`${what} ${isShared ? 'share a limit' : 'have a limit each'}`, () => {
    const { limits } = makeLimits(1)
    const [first, second] = peers.map(peerAt)
    assert.equal(burst(limits, ANONYMOUS, first).taken, 10)
    assert.equal(burst(limits, ANONYMOUS, second).taken, isShared ? 0 : 10)
  })
}

test('an identity has one limit at all its addresses, apart from the anonymous clients there', () => {
  const { limits } = makeLimits(1)
  assert.equal(burst(limits, named('alice'), ONE).taken, 10)
  assert.equal(burst(limits, named('alice'), peerAt('10.0.0.2')).taken, 0)
  assert.equal(burst(limits, named('bob'), ONE).taken, 10)
  assert.equal(burst(limits, ANONYMOUS, ONE).taken, 10)
})

test('a client of a unix socket is not limited, and neither is anybody without a limit', () => {
  const { limits } = makeLimits(1, 1)
  assert.equal(burst(limits, ANONYMOUS, peerAt(undefined)).taken, 10_000)
  assert.equal(limits.enterDownload(ANONYMOUS, peerAt(undefined)), undefined)
  const { limits: none } = makeLimits()
  assert.equal(burst(none).taken, 10_000)
  assert.equal(none.enterDownload(ANONYMOUS, ONE), undefined)
})

test('a download counts until it ends, and one too many counts nothing', () => {
  const { limits } = makeLimits(undefined, 2)
  const first = limits.enterDownload(ANONYMOUS, ONE)
  limits.enterDownload(ANONYMOUS, ONE)
  for (let index = 0; index < 10; index += 1)
    assert.throws(() => limits.enterDownload(ANONYMOUS, ONE), { code: 'RATE_LIMITED', retryAfterMs: 5000 })
  assert.notEqual(limits.enterDownload(named('alice'), ONE), undefined)
  first?.()
  assert.notEqual(limits.enterDownload(ANONYMOUS, ONE), undefined)
})

test('another thread with the same memory counts the same clients', () => {
  const { limits } = makeLimits(1, 1)
  const other = new ClientLimits({ requestsPerSecond: 1, downloads: 1 }, limits.memory, () => 5n * SECOND_US)
  assert.equal(burst(limits).taken, 10)
  assert.equal(burst(other).taken, 0)
  const leave = other.enterDownload(ANONYMOUS, ONE)
  assert.throws(() => limits.enterDownload(ANONYMOUS, ONE), OciError)
  leave?.()
  assert.notEqual(limits.enterDownload(ANONYMOUS, ONE), undefined)
})
