import assert from 'node:assert/strict'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { createMetrics } from '../../src/observe/metrics.ts'
import { digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName } from '../../src/oci/name.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { PeerAsking, type PeerAskingParts } from '../../src/peers/asking.ts'
import { Members } from '../../src/peers/members.ts'
import { contentKeyOf } from '../../src/peers/owned-tags.ts'
import { RollCall } from '../../src/peers/roll-call.ts'
import { type PeerAddress, PeerTrouble, type PeerWire } from '../../src/peers/wire.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { seeEvents } from '../support/seen-events.ts'

const INSTANCE = 'entrepot-000000000000'
const ADDRESSES = Array.from({ length: 10_000 }, (_, index) => ({ host: `replica-${index}`, port: 8082 }))
const DIGEST = digestOf(Buffer.from('content'))
const { signal } = new AbortController()

/** A roll call whose members all do not answer. */
function callDead(addresses: readonly PeerAddress[]): {
  readonly roll: RollCall
  readonly greetings: () => number
} {
  const clock = new FakeClock()
  const members = new Members('test', clock)
  members.replace(addresses)
  let greetings = 0
  const wire: Pick<PeerWire, 'ask'> = {
    ask: async () => {
      greetings += 1
      return await Promise.reject(new PeerTrouble('unreachable', 'not there'))
    },
  }
  const { events } = seeEvents()
  const roll = new RollCall({
    members,
    wire,
    clock,
    events,
    metrics: createMetrics(),
    instance: INSTANCE,
    addresses: async () => await Promise.resolve(addresses),
  })
  return { roll, greetings: () => greetings }
}

test('a replica that nobody knows causes a bounded number of greetings, however often it asks', async () => {
  const { roll, greetings } = callDead(ADDRESSES)
  await using _ = roll
  for (let question = 0; question < 20; question += 1) roll.heard('entrepot-ffffffffffff')
  assert.equal(greetings(), 100)
})

test('a member that seems dead is greeted in the next round if an unknown replica has asked meanwhile', async () => {
  const { roll, greetings } = callDead(ADDRESSES.slice(0, 1))
  await using _ = roll
  roll.heard('entrepot-ffffffffffff')
  roll.heard('entrepot-eeeeeeeeeeee')
  assert.equal(greetings(), 1)
  await setImmediate()
  await roll.start()
  assert.equal(greetings(), 2)
})

test('of ten thousand members that all refuse, four are asked before the registry', async () => {
  const clock = new FakeClock()
  const members = new Members('test', clock)
  members.replace(ADDRESSES)
  let questions = 0
  const wire: Pick<PeerWire, 'ask'> = {
    ask: async ({ host }) => {
      questions += 1
      return await Promise.resolve({
        answer: { kind: 'refused', why: 'busy' },
        instance: host,
        body: new IncomingMessage(new Socket()),
      })
    },
  }
  const found = await askFor(contentKeyOf(DOCKER_HUB, DIGEST), { members, wire, clock })
  assert.equal(found, undefined)
  assert.equal(questions, 4)
})

test('the next one in order is waited for until it has noticed that the owner is dead, also by one that knows', async () => {
  const clock = FakeClock.skipDelays()
  const members = new Members('test', clock)
  members.replace(ADDRESSES.slice(0, 3))
  const key = contentKeyOf(DOCKER_HUB, DIGEST)
  members.ownerOf(key)?.breaker.begin().failed()
  const asked: string[] = []
  const wire: Pick<PeerWire, 'ask'> = {
    ask: async ({ host }) => {
      asked.push(host)
      const isFollowing = asked.length < 3
      return await Promise.resolve({
        answer: isFollowing ? { kind: 'refused', why: 'following' } : { kind: 'absent' },
        instance: host,
        body: new IncomingMessage(new Socket()),
      })
    },
  }
  assert.equal((await askFor(key, { members, wire, clock }))?.answer.kind, 'absent')
  assert.deepEqual([asked.length, new Set(asked).size], [3, 1])
})

/** Asks the replicas for a manifest, as one that holds the key would. */
async function askFor(
  key: string,
  parts: Pick<PeerAskingParts, 'members' | 'wire' | 'clock'>,
): ReturnType<PeerAsking['ask']> {
  const asking = new PeerAsking({
    ...parts,
    metrics: createMetrics(),
    events: seeEvents().events,
    instance: INSTANCE,
    isLeaving: () => false,
  })
  const repository = 'team/app' as RepositoryName
  const question = { kind: 'manifest', namespace: DOCKER_HUB, repository, digest: DIGEST } as const
  return await asking.ask(key, question, { signal })
}
