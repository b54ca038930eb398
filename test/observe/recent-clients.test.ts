import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FinishedRequest } from '../../src/observe/event.ts'
import { RecentClients } from '../../src/observe/recent-clients.ts'
import { DOCKER_HUB, parseNamespace } from '../../src/oci/namespace.ts'

function request(fields: Partial<FinishedRequest> = {}): FinishedRequest {
  return {
    method: 'GET',
    resource: 'manifest',
    status: 200,
    outcome: 'hit',
    namespace: DOCKER_HUB,
    repository: 'library/alpine',
    reference: 'latest',
    client: '10.0.0.1',
    identity: 'anonymous',
    userAgent: 'containerd/2.1.0',
    sentBytes: 1,
    durationMs: 1,
    error: undefined,
    isAborted: false,
    ...fields,
  }
}

test('a client is an address with a user agent; its requests are counted, and it is told with its registries', () => {
  let nowMs = Date.UTC(2026, 0, 1)
  const clients = new RecentClients(() => nowMs)
  clients.saw(request())
  clients.saw(request({ userAgent: 'docker/28' }))
  nowMs += 60_000
  clients.saw(request({ namespace: parseNamespace('quay.io'), status: 404 }))
  assert.deepEqual(clients.list(), [
    {
      address: '10.0.0.1',
      userAgent: 'containerd/2.1.0',
      requests: 2,
      namespaces: ['docker.io', 'quay.io'],
      firstSeen: '2026-01-01T00:00:00.000Z',
      lastSeen: '2026-01-01T00:01:00.000Z',
      lastStatus: 404,
    },
    {
      address: '10.0.0.1',
      userAgent: 'docker/28',
      requests: 1,
      namespaces: ['docker.io'],
      firstSeen: '2026-01-01T00:00:00.000Z',
      lastSeen: '2026-01-01T00:00:00.000Z',
      lastStatus: 200,
    },
  ])
})

test('probes are no clients, and neither is one that has no address any more', () => {
  const clients = new RecentClients()
  clients.saw(request({ resource: 'live' }))
  clients.saw(request({ resource: 'ready' }))
  clients.saw(request({ client: undefined }))
  assert.deepEqual(clients.list(), [])
})

test('however many clients there are, the last 500 are kept, and of each at most 20 registries and 257 characters', () => {
  const clients = new RecentClients()
  for (let index = 0; index < 700; index += 1)
    clients.saw(request({ client: `10.0.${index >> 8}.${index & 255}` }))
  assert.equal(clients.list().length, 500)
  assert.equal(clients.list()[0]?.address, '10.0.2.187')
  for (let index = 0; index < 30; index += 1)
    clients.saw(request({ userAgent: 'x'.repeat(9000), namespace: parseNamespace(`r${index}.example.com`) }))
  assert.equal(clients.list()[0]?.namespaces.length, 20)
  assert.equal(clients.list()[0]?.userAgent.length, 257)
})

test('a client that two threads saw was first seen at the earlier time, and last seen at the later one', () => {
  let nowMs = 1000
  const [here, there] = [new RecentClients(() => nowMs), new RecentClients(() => nowMs)]
  there.saw(request({ status: 404 }))
  nowMs = 2000
  here.saw(request())
  here.merge(there.take())
  const [client] = here.list()
  assert.deepEqual(
    [client?.firstSeen, client?.lastSeen, client?.lastStatus, client?.requests],
    ['1970-01-01T00:00:01.000Z', '1970-01-01T00:00:02.000Z', 200, 2],
  )
})
