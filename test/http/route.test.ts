import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseRoute, type Route, TARGET_LENGTH_MAX } from '../../src/http/route.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { OciError } from '../../src/oci/error.ts'

const digest = digestOf(Buffer.from('x'))
const digest512 = digestOf(Buffer.from('x'), 'sha512')

/** A route in one line: kind, ns, prefix, path, and what it asks for. */
function lineOf(route: Route): string {
  if (!('name' in route)) return route.kind
  const { ns, prefix, path } = route.name
  const about =
    route.kind === 'manifest'
      ? JSON.stringify(route.reference)
      : route.kind === 'tags'
        ? `n=${route.page.n} last=${route.page.last}`
        : route.kind === 'referrers'
          ? `${route.digest} type=${route.artifactType}`
          : 'digest' in route
            ? route.digest
            : JSON.stringify(route)
  return `${route.kind} ns=[${ns.join()}] prefix=${prefix} path=${path} ${about}`
}

const tag = (name: string): string => JSON.stringify({ kind: 'tag', tag: name })
const byDigest = (text: string): string => JSON.stringify({ kind: 'digest', digest: text })

const ROUTES: readonly (readonly [string, string])[] = [
  ['/', 'live'],
  ['/livez', 'live'],
  ['/readyz', 'ready'],
  ['/v2', 'base'],
  ['/v2/', 'base'],
  ['/v2/?ns=ghcr.io', 'base'],
  ['/ghcr.io/v2/', 'base'],
  ['/ghcr.io/v2', 'base'],
  ['/v1/_ping', 'unknown'],
  ['/favicon.ico', 'unknown'],
  ['/v2/manifests/1', 'unknown'],
  ['/v2/a/b', 'unknown'],
  ['/v2/a/tags', 'unknown'],
  ['/v2/a/tags/other', 'unknown'],
  ['/a/b/v2/c/manifests/1', 'unknown'],
  ['/v2/a/manifests/1', `manifest ns=[] prefix=undefined path=a ${tag('1')}`],
  [
    '/v2/library/a/manifests/1?ns=docker.io',
    `manifest ns=[docker.io] prefix=undefined path=library/a ${tag('1')}`,
  ],
  [
    '/v2/a/manifests/1?ns=other.example%3A5000',
    `manifest ns=[other.example:5000] prefix=undefined path=a ${tag('1')}`,
  ],
  ['/v2/a/manifests/1?ns=x.y&ns=z.y', `manifest ns=[x.y,z.y] prefix=undefined path=a ${tag('1')}`],
  ['/ghcr.io/v2/a/b/manifests/1', `manifest ns=[] prefix=ghcr.io path=a/b ${tag('1')}`],
  ['/ghcr.io:5000/v2/a/manifests/1', `manifest ns=[] prefix=ghcr.io:5000 path=a ${tag('1')}`],
  ['/v2/quay.io/a/b/manifests/1', `manifest ns=[] prefix=undefined path=quay.io/a/b ${tag('1')}`],
  ['/v2/localhost:5000/a/manifests/1', `manifest ns=[] prefix=undefined path=localhost:5000/a ${tag('1')}`],
  ['/v2/v2/a/manifests/1', `manifest ns=[] prefix=undefined path=v2/a ${tag('1')}`],
  [`/v2/a/manifests/${digest}`, `manifest ns=[] prefix=undefined path=a ${byDigest(digest)}`],
  [
    `/v2/a/manifests/${digest.replace(':', '%3A')}`,
    `manifest ns=[] prefix=undefined path=a ${byDigest(digest)}`,
  ],
  [`/v2/a/blobs/${digest.replace(':', '%3a')}`, `blob ns=[] prefix=undefined path=a ${digest}`],
  [`/v2/a/blobs/${digest512}`, `blob ns=[] prefix=undefined path=a ${digest512}`],
  ['/v2/a/tags/list', 'tags ns=[] prefix=undefined path=a n=undefined last=undefined'],
  ['/v2/a/tags/list?n=50&last=v1', 'tags ns=[] prefix=undefined path=a n=50 last=v1'],
  ['/v2/a/tags/list?n=0', 'tags ns=[] prefix=undefined path=a n=0 last=undefined'],
  [`/v2/a/referrers/${digest}`, `referrers ns=[] prefix=undefined path=a ${digest} type=undefined`],
  [
    `/v2/a/referrers/${digest}?artifactType=a%2Fb`,
    `referrers ns=[] prefix=undefined path=a ${digest} type=a/b`,
  ],
  ['http://any.host:99/v2/a/manifests/1', `manifest ns=[] prefix=undefined path=a ${tag('1')}`],
  ['HTTPS://any/v2/', 'base'],
  ['http://any.host', 'live'],
  ['/v2/a/manifests/manifests/1', `manifest ns=[] prefix=undefined path=a/manifests ${tag('1')}`],
  [`/v2/blobs/manifests/blobs/${digest}`, `blob ns=[] prefix=undefined path=blobs/manifests ${digest}`],
  ['/v2/team/uploads/manifests/1', `manifest ns=[] prefix=undefined path=team/uploads ${tag('1')}`],
  [`/v2/team/uploads/blobs/${digest}`, `blob ns=[] prefix=undefined path=team/uploads ${digest}`],
  [
    '/v2/a/blobs/uploads/tags/list',
    'tags ns=[] prefix=undefined path=a/blobs/uploads n=undefined last=undefined',
  ],
]
for (const [target, line] of ROUTES) {
  test(`${target.slice(0, 60)} is ${line.slice(0, 80)}`, () => {
    assert.equal(lineOf(parseRoute('GET', target)), line)
    assert.equal(lineOf(parseRoute('HEAD', target)), line)
  })
}

const REFUSED: readonly (readonly [string, string])[] = [
  ['', 'REQUEST_INVALID'],
  ['*', 'REQUEST_INVALID'],
  ['v2/', 'REQUEST_INVALID'],
  ['any.host:443', 'REQUEST_INVALID'],
  ['ftp://any/v2/', 'REQUEST_INVALID'],
  ['//evil.com/v2/', 'REQUEST_INVALID'],
  ['/v2//a/manifests/1', 'REQUEST_INVALID'],
  ['/v2/a//manifests/1', 'REQUEST_INVALID'],
  ['/v2/./a/manifests/1', 'REQUEST_INVALID'],
  ['/v2/../a/manifests/1', 'REQUEST_INVALID'],
  ['/v2/a/manifests/..', 'REQUEST_INVALID'],
  ['/..', 'REQUEST_INVALID'],
  ['/./', 'REQUEST_INVALID'],
  ['/v2/a/manifests/%2e%2e', 'REQUEST_INVALID'],
  ['/v2/a%2fb/manifests/1', 'REQUEST_INVALID'],
  ['/v2/a%3Ab/manifests/1', 'REQUEST_INVALID'],
  ['/v2/a/manifests/x%3A', 'REQUEST_INVALID'],
  ['/v2/a/manifests/sha256%253A', 'REQUEST_INVALID'],
  ['/v2/a\\b/manifests/1', 'REQUEST_INVALID'],
  ['/v2/a\0/manifests/1', 'REQUEST_INVALID'],
  ['/v2/a\t/manifests/1', 'REQUEST_INVALID'],
  ['/v2/é/manifests/1', 'REQUEST_INVALID'],
  ['/v2/a/manifests/1#x', 'REQUEST_INVALID'],
  ['/v2/a/manifests/1;x', 'REQUEST_INVALID'],
  ['http://any//v2/', 'REQUEST_INVALID'],
  ['/v2/a/manifests/', 'TAG_INVALID'],
  ['/v2/a/manifests/.hidden', 'TAG_INVALID'],
  [`/v2/a/manifests/${'x'.repeat(129)}`, 'TAG_INVALID'],
  ['/v2/a/manifests/sha256:abc', 'DIGEST_INVALID'],
  ['/v2/a/manifests/a:b', 'DIGEST_INVALID'],
  ['/v2/a/blobs/latest', 'DIGEST_INVALID'],
  ['/v2/a/blobs/', 'DIGEST_INVALID'],
  [`/v2/a/blobs/${digest.toUpperCase()}`, 'DIGEST_INVALID'],
  ['/v2/a/referrers/latest', 'DIGEST_INVALID'],
  ['/v2/a/blobs/uploads/', 'UNSUPPORTED'],
  ['/v2/a/blobs/uploads/b2c6-11', 'BLOB_UPLOAD_UNKNOWN'],
  ['/v2/_catalog?n=x', 'REQUEST_INVALID'],
  ['/v2/a/tags/list?n=-1', 'REQUEST_INVALID'],
  ['/v2/a/tags/list?n=1e3', 'REQUEST_INVALID'],
  ['/v2/a/tags/list?n=', 'REQUEST_INVALID'],
  ['/v2/a/tags/list?n=1000000000', 'REQUEST_INVALID'],
]

function codeOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    assert.ok(error instanceof OciError)
    return error.code
  }
  return 'none'
}

for (const [target, code] of REFUSED) {
  test(`${JSON.stringify(target.slice(0, 60))} is refused with ${code}`, () => {
    assert.equal(
      codeOf(() => parseRoute('GET', target)),
      code,
    )
  })
}

const ID = '5f3a1c1e-9b1d-4c53-8a50-0f4f7f0c9a11'

/** Each verb and resource of a push, and what is read from it. */
const PUSHES: readonly (readonly [string, string, string])[] = [
  ['POST', '/v2/a/b/blobs/uploads/', 'begin-upload'],
  ['POST', '/v2/a/b/blobs/uploads', 'begin-upload'],
  ['POST', `/v2/a/blobs/uploads/?mount=${digest}&from=c/d`, 'begin-upload'],
  ['POST', '/v2/a/blobs/uploads/?digest-algorithm=sha512', 'begin-upload'],
  ['GET', `/v2/a/blobs/uploads/${ID}`, 'upload-state'],
  ['HEAD', `/v2/a/blobs/uploads/${ID}`, 'upload-state'],
  ['PATCH', `/v2/a/blobs/uploads/${ID}`, 'append-upload'],
  ['PUT', `/v2/a/blobs/uploads/${ID}?digest=${digest}`, 'finish-upload'],
  ['DELETE', `/v2/a/blobs/uploads/${ID}`, 'cancel-upload'],
  ['PUT', '/v2/a/manifests/latest', 'push-manifest'],
  ['PUT', `/v2/a/manifests/${digest}?tag=a&tag=b`, 'push-manifest'],
  ['DELETE', '/v2/a/manifests/latest', 'delete-manifest'],
  ['DELETE', `/v2/a/blobs/${digest}`, 'delete-blob'],
  ['GET', '/v2/_catalog?n=3&last=x', 'catalog'],
  ['PUT', '/quay.io/v2/a/manifests/latest', 'push-manifest'],
]

for (const [method, target, kind] of PUSHES) {
  test(`${method} ${target.slice(0, 60)} is ${kind}`, () => {
    assert.equal(parseRoute(method, target).kind, kind)
  })
}

test('a push keeps every digest, tag and source that its query names', () => {
  const upload = parseRoute('PUT', `/v2/a/blobs/uploads/${ID}?digest=x&digest=y`)
  assert.ok(upload.kind === 'finish-upload')
  assert.deepEqual([upload.id, upload.digests, upload.name.path], [ID, ['x', 'y'], 'a'])
  const begun = parseRoute('POST', `/v2/a/b/blobs/uploads/?mount=${digest}&from=c/d&digest-algorithm=sha512`)
  assert.ok(begun.kind === 'begin-upload')
  assert.deepEqual(
    [begun.mount, begun.from, begun.algorithm, begun.name.path],
    [digest, 'c/d', 'sha512', 'a/b'],
  )
  const manifest = parseRoute('PUT', '/v2/a/manifests/v1?tag=v2&tag=v3')
  assert.ok(manifest.kind === 'push-manifest')
  assert.deepEqual(manifest.tags, ['v2', 'v3'])
  assert.equal(
    codeOf(() => parseRoute('PUT', '/v2/a/manifests/v1?tag=.x')),
    'TAG_INVALID',
  )
  assert.equal(
    codeOf(() => parseRoute('POST', '/v2/a/blobs/uploads/?digest-algorithm=md5')),
    'DIGEST_INVALID',
  )
  assert.equal(
    codeOf(() => parseRoute('PUT', '/v2/a/blobs/uploads/../x')),
    'REQUEST_INVALID',
  )
})

for (const method of ['PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'get', '']) {
  test(`${JSON.stringify(method)} is refused with UNSUPPORTED where it means nothing`, () => {
    for (const target of ['/', '/v2/', '/v2/a/tags/list', '/v2/_catalog', '/nowhere'])
      assert.equal(
        codeOf(() => parseRoute(method, target)),
        'UNSUPPORTED',
      )
  })
}

test('a target of 8 KiB is read, and one character more is refused with URI_TOO_LONG', () => {
  const target = (length: number): string => `/v2/?x=${'a'.repeat(length - 7)}`
  assert.equal(parseRoute('GET', target(TARGET_LENGTH_MAX - 1)).kind, 'base')
  assert.equal(parseRoute('GET', target(TARGET_LENGTH_MAX)).kind, 'base')
  assert.equal(
    codeOf(() => parseRoute('GET', target(TARGET_LENGTH_MAX + 1))),
    'URI_TOO_LONG',
  )
})

test('a tag of 128 characters is read', () => {
  assert.equal(parseRoute('GET', `/v2/a/manifests/${'x'.repeat(128)}`).kind, 'manifest')
})

test('no target makes the router throw anything but a refusal, and no path of a route has a dot segment', () => {
  const piece = fc.constantFrom(
    '/',
    '//',
    '.',
    '..',
    'v2',
    'a',
    'manifests',
    'blobs',
    'uploads',
    'tags',
    'list',
    '%3A',
    '%',
    '\\',
    '?',
    'ns=',
    '&',
    '#',
    '\0',
    'é',
    digest,
    'sha256',
    'http://',
    ':',
    '@',
    '_catalog',
    'referrers',
    '=',
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 14 }), fc.boolean(), (pieces, isRooted) => {
      try {
        const route = parseRoute('GET', `${isRooted ? '/' : ''}${pieces.join('')}`)
        if ('name' in route) {
          assert.ok(!route.name.path.split('/').some(part => part === '' || part === '.' || part === '..'))
        }
      } catch (error) {
        assert.ok(error instanceof OciError)
      }
    }),
    { numRuns: 5000 },
  )
})
