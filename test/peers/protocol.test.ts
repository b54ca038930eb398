import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/name.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import {
  answerText,
  CHANGES_MAX,
  type PeerQuestion,
  parseAnswer,
  parseQuestion,
  targetOf,
} from '../../src/peers/protocol.ts'

const PLACE = { namespace: DOCKER_HUB, repository: 'team/app' as RepositoryName }
const DIGEST = digestOf(Buffer.from('content'))
const TAG = 'v1' as Tag

const QUESTIONS: readonly PeerQuestion[] = [
  { kind: 'hello' },
  { kind: 'blob', ...PLACE, digest: DIGEST, from: 12, isLinked: true },
  { kind: 'blob', ...PLACE, client: '2001:db8::1', digest: DIGEST, from: 0, isLinked: false },
  { kind: 'manifest', ...PLACE, registry: '0123456789abcdef', digest: DIGEST },
  { kind: 'tag', ...PLACE, client: '192.0.2.7', tag: TAG, isFresh: true },
  { kind: 'progress', ...PLACE, digest: DIGEST, untilStored: true },
  {
    kind: 'changed',
    changes: [
      { ...PLACE, tag: TAG, digest: DIGEST },
      { ...PLACE, tag: undefined, digest: DIGEST },
    ],
  },
]

test('every question is read as it was asked', () => {
  for (const question of QUESTIONS) assert.deepEqual(parseQuestion(targetOf(question)), question)
})

test('what is no question is not read, and an address that is none is left out', () => {
  const good = targetOf({ kind: 'blob', ...PLACE, digest: DIGEST, from: 1, isLinked: false })
  for (const target of [
    '/v2/',
    '/peer/blob',
    good.replace('from=1', 'from=-1'),
    good.replace('from=1', `from=${'9'.repeat(16)}`),
    good.replace('team', '..'),
    good.replace('sha256', 'md5'),
    targetOf({
      kind: 'changed',
      changes: Array.from({ length: CHANGES_MAX + 1 }, () => ({ ...PLACE, tag: TAG })),
    }),
    '/peer/changed?changes=[1]',
  ])
    assert.equal(parseQuestion(target), undefined, target)
  const asked = parseQuestion(`${good}&client=somebody`)
  assert.ok(asked !== undefined && !('client' in asked))
})

test('an answer that is none of this version is not read', () => {
  const answer = { kind: 'content', from: 0, sizeBytes: 3, isStored: true } as const
  assert.deepEqual(parseAnswer(answerText(answer)), answer)
  for (const text of [undefined, '', 'x', Buffer.from('{"kind":"other"}').toString('base64url')])
    assert.equal(parseAnswer(text), undefined)
})
