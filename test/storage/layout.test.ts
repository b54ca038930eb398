import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf, parseDigest } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag } from '../../src/oci/name.ts'
import { parseConfiguredNamespace, parseNamespace } from '../../src/oci/namespace.ts'
import { contentKey, parseRecordKey, recordKey } from '../../src/storage/layout.ts'
import type { RecordName } from '../../src/storage/store.ts'
import { defined, linkRecord, tagRecord } from './contract.ts'

test('content lies where oci-registry puts a blob', () => {
  const hex = `c0ffee${'1'.repeat(58)}`
  assert.equal(contentKey(defined(parseDigest(`sha256:${hex}`))), `blobs/sha256/c0/${hex.slice(2)}`)
  const long = 'ab'.repeat(64)
  assert.equal(contentKey(defined(parseDigest(`sha512:${long}`))), `blobs/sha512/ab/${long.slice(2)}`)
})

test('a tag and a link lie below their namespace and repository', () => {
  const digest = digestOf(Buffer.from('x'))
  const hex = digest.slice(7)
  assert.equal(recordKey(tagRecord('1.0', 'library/tools')), 'repositories/docker.io/library/tools/_tags/1.0')
  assert.equal(
    recordKey(linkRecord(digest, 'a/b', 'registry.example.com:5000')),
    `repositories/registry.example.com:5000/a/b/_links/sha256/${hex}`,
  )
})

const NAMESPACES = ['docker.io', 'a.b', 'a.b:5000', 'a-b.c', 'localhost', 'localhost:1', '[::1]:5000', 'b_c']
const REPOSITORIES = [
  'a',
  'b',
  'a/b',
  'a/b/c',
  'tags',
  'links/sha256',
  'a/tags',
  'a_b',
  'a__b',
  'a-b',
  'a.b',
  'sha256',
]
const TAGS = ['a', 'A', '_', '_tags', '_links', 'sha256', 'latest', '__', 'a.b', '-'.padStart(2, 'a'), 'tags']

/** Every combination of names that could be mistaken for a part of the layout. */
function confusable(): Extract<RecordName, { readonly kind: 'tag' | 'link' }>[] {
  const digests = ['x', 'y'].flatMap(text => [
    digestOf(Buffer.from(text)),
    digestOf(Buffer.from(text), 'sha512'),
  ])
  return NAMESPACES.flatMap(text => {
    const namespace = defined(parseNamespace(text) ?? parseConfiguredNamespace(text))
    return REPOSITORIES.flatMap(text => {
      const repository = defined(parseRepositoryName(text))
      return [
        ...TAGS.map(tag => ({ kind: 'tag', namespace, repository, tag: defined(parseTag(tag)) }) as const),
        ...digests.map(digest => ({ kind: 'link', namespace, repository, digest }) as const),
      ]
    })
  })
}

test('no two names share a key, and no key is a directory of another', () => {
  const names = confusable()
  const keys = new Set(names.map(recordKey))
  assert.equal(keys.size, names.length)
  assert.ok(keys.size > 1_000)
  for (const key of keys) {
    const parts = key.split('/')
    for (let length = 1; length < parts.length; length += 1) {
      assert.ok(!keys.has(parts.slice(0, length).join('/')), `${key} lies below another record`)
    }
  }
})

test('the history of a tag has a key of its own, which no walk of the cache meets', () => {
  const histories = confusable().flatMap(name =>
    name.kind === 'tag' ? [{ ...name, kind: 'history' } as const] : [],
  )
  const keys = new Set(histories.map(recordKey))
  assert.equal(keys.size, histories.length)
  for (const key of keys) assert.ok(key.startsWith('history/'), key)
})

/** Reads a key back into the words of its name, which only works if the key says all of them. */
function words(key: string): string[] {
  const match = /^repositories\/([^/]+)\/([^_/][^/]*(?:\/[^_/][^/]*)*)\/(_tags|_links)\/(.+)$/.exec(key)
  return defined(match ?? undefined).slice(1)
}

test('a key can be read back into its name', () => {
  for (const name of confusable()) {
    const [namespace, repository, kind, rest] = words(recordKey(name))
    assert.equal(namespace, name.namespace)
    assert.equal(repository, name.repository)
    assert.equal(kind, name.kind === 'tag' ? '_tags' : '_links')
    assert.equal(rest, name.kind === 'tag' ? name.tag : name.digest.replace(':', '/'))
  }
})

test('no key leaves its root: none has a component that is empty or begins with a dot', () => {
  for (const name of confusable()) {
    for (const part of recordKey(name).split('/')) assert.match(part, /^[^.]/)
  }
  for (const text of ['..', '.', '../x', 'a/../b', '/a', 'a//b', '.hidden', '_tags', 'a/_links', 'a/b/']) {
    assert.equal(parseRepositoryName(text), undefined, text)
  }
  for (const text of ['..', '.', '../x', 'a/b', '_x', '.a']) {
    assert.equal(parseNamespace(text), undefined, text)
    assert.equal(parseConfiguredNamespace(text), undefined, text)
  }
  for (const text of ['..', '.', 'a/b', '-a']) assert.equal(parseTag(text), undefined, text)
})

test('a hold is one file in the directory of its digest, and three components if its names are long', () => {
  const [digest, by] = [digestOf(Buffer.from('x')), digestOf(Buffer.from('y'), 'sha512')]
  const group = contentKey(digest).replace('blobs', 'hosted/holds')
  const hold = { kind: 'hosted-hold', digest, namespace: defined(parseNamespace('docker.io')) } as const
  const short = { ...hold, repository: defined(parseRepositoryName('team/app')) }
  assert.equal(recordKey(short), `${group}/docker.io+team+app+itself`)
  const long = { ...hold, repository: defined(parseRepositoryName('team/app')), by }
  assert.equal(recordKey(long), `${group}/docker.io/team+app/${by.replace(':', '-')}`)
})

test('holds have different keys, none is a directory of another, and each is read back', () => {
  const bys = [undefined, digestOf(Buffer.from('y')), digestOf(Buffer.from('y'), 'sha512')]
  const repositories = [...REPOSITORIES, 'itself', 'itself/itself', 'a'.repeat(255)]
  const namespaces = [...NAMESPACES, `${'a'.repeat(63)}.`.repeat(3) + 'b'.repeat(55)]
  const digest = digestOf(Buffer.from('x'))
  const keys = new Set<string>()
  for (const namespaceText of namespaces)
    for (const repositoryText of repositories)
      for (const by of bys) {
        const repository = defined(parseRepositoryName(repositoryText))
        const namespace = defined(parseNamespace(namespaceText) ?? parseConfiguredNamespace(namespaceText))
        const name = { kind: 'hosted-hold', namespace, repository, digest, ...(by && { by }) } as const
        const key = recordKey(name)
        assert.deepEqual(parseRecordKey(key), name)
        assert.ok(!keys.has(key), key)
        for (const part of key.split('/')) assert.ok(part.length <= 255, key)
        keys.add(key)
      }
  assert.ok(keys.size > 300)
  for (const key of keys) {
    const parts = key.split('/')
    for (let length = 1; length < parts.length; length += 1)
      assert.ok(!keys.has(parts.slice(0, length).join('/')), `${key} lies below another hold`)
  }
})

test('the longest names make components that a file system accepts', () => {
  const repository = 'a'.repeat(255)
  const namespace = `${'a'.repeat(63)}.`.repeat(3) + `${'b'.repeat(55)}:65535`
  const key = recordKey(tagRecord('t'.repeat(128), repository, namespace))
  for (const part of key.split('/')) assert.ok(Buffer.byteLength(part) <= 255)
})
