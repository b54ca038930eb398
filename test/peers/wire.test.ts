import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { PeerKey } from '../../src/peers/peer-key.ts'
import { PeerTrouble, PeerWire } from '../../src/peers/wire.ts'
import { startFakePeer, startPeerServer } from '../support/fake-peer.ts'
import { freePorts, PEER_SECRET } from '../support/replicas.ts'
import { startCanary } from '../support/upstream.ts'

const LIMITS = { connectMs: 300, signMs: 50, beatMs: 50, freeMs: 1000, answerMs: 10_000 }
const { signal } = new AbortController()

function openWire(answerMs = LIMITS.answerMs): PeerWire {
  const key = new PeerKey(PEER_SECRET, 'test')
  return new PeerWire({ key, instance: 'entrepot-000000000000', limits: { ...LIMITS, answerMs } })
}

async function troubleAt(port: number, answerMs?: number): Promise<string> {
  using wire = openWire(answerMs)
  try {
    await wire.ask({ host: '127.0.0.1', port }, { kind: 'hello' }, { signal })
  } catch (error) {
    assert.ok(error instanceof PeerTrouble)
    return error.kind
  }
  return 'none'
}

test('a replica that accepts and says nothing is silent, and one that does not accept is unreachable', async () => {
  await using canary = await startCanary()
  const [dead = 0] = await freePorts(1)
  assert.equal(await troubleAt(canary.port), 'silent')
  assert.equal(await troubleAt(dead), 'unreachable')
})

test('a replica that is slow to answer is waited for while it gives signs of life, and no longer', async () => {
  let signs = 0
  await using server = await startPeerServer((_request, response) => {
    const timer = setInterval(() => {
      signs += 1
      if (signs > 5) clearInterval(timer)
      else response.writeProcessing()
    }, 20)
  })
  assert.equal(await troubleAt(server.port), 'silent')
  assert.equal(signs, 6)
})

test('a replica that gives signs of life for ever and no answer is slow', async () => {
  await using server = await startPeerServer((_request, response) => {
    const timer = setInterval(() => response.writeProcessing(), 10)
    response.once('close', () => clearInterval(timer))
  })
  assert.equal(await troubleAt(server.port, 100), 'slow')
})

test('an answer that is not signed with the secret, or for another question, is a stranger', async () => {
  await using server = await startPeerServer((_request, response) => response.end('hello'))
  assert.equal(await troubleAt(server.port), 'stranger')
  const key = new PeerKey(PEER_SECRET, 'test')
  const field = key.signAnswer('entrepot-000000000000', 'one nonce', 'an answer')
  assert.equal(typeof key.readAnswer(field, 'one nonce', 'an answer'), 'object')
  assert.equal(key.readAnswer(field, 'another nonce', 'an answer'), 'secret')
  assert.equal(key.readAnswer(field, 'one nonce', 'another answer'), 'secret')
})

async function greet(wire: PeerWire, port: number): Promise<string> {
  const { answer, body } = await wire.ask({ host: '127.0.0.1', port }, { kind: 'hello' }, { signal })
  body.resume()
  await once(body, 'close')
  return answer.kind
}

test('questions to a replica one after the other share one connection', async () => {
  await using peer = await startFakePeer()
  using wire = openWire()
  for (let count = 0; count < 3; count += 1) assert.equal(await greet(wire, peer.port), 'hello')
  assert.equal(peer.connections, 1)
})

test('a question on a kept connection that the replica has closed is asked again', async () => {
  await using peer = await startFakePeer()
  using wire = openWire()
  assert.equal(await greet(wire, peer.port), 'hello')
  peer.dropConnections()
  assert.equal(await greet(wire, peer.port), 'hello')
  assert.equal(peer.connections, 2)
})
