import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseConfiguredNamespace, parseNamespace } from '../../src/oci/namespace.ts'
import { HOST_CORPUS } from '../support/host-corpus.ts'

const MEANT: readonly (readonly [string, string])[] = [
  ['ghcr.io', 'ghcr.io'],
  ['GHCR.io', 'ghcr.io'],
  ['quay.io:5000', 'quay.io:5000'],
  ['quay.io:443', 'quay.io'],
  ['docker.io', 'docker.io'],
  ['index.docker.io', 'docker.io'],
  ['registry-1.docker.io', 'docker.io'],
  ['Registry-1.Docker.IO:443', 'docker.io'],
  ['a.b', 'a.b'],
  ['x--y.example', 'x--y.example'],
  ['1.example', '1.example'],
  ['example.com:65535', 'example.com:65535'],
  ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
  [`${'a'.repeat(63)}.example`, `${'a'.repeat(63)}.example`],
]
for (const [text, namespace] of MEANT) {
  test(`${text} names the namespace ${namespace}`, () => {
    assert.equal(parseNamespace(text), namespace)
  })
}

const REFUSED: readonly string[] = [
  '',
  'localhost',
  'localhost:6379',
  'single',
  '127.0.0.1',
  '127.1',
  '0',
  '0.0.0.0',
  '0x7f000001',
  '0x7f.1',
  '127.0.0.0x1',
  'a.0x',
  '2130706433',
  '017700000001',
  '169.254.169.254',
  '169.254.169.254:80',
  '1.2.3.4.5',
  '[::1]',
  '[::1]:80',
  '[::ffff:169.254.169.254]',
  '::1',
  '①②⑦.⓪.⓪.①',
  '１２７.0.0.1',
  'docker.io@evil.com',
  'user:pass@evil.com',
  'evil.com/../x',
  'evil.com/',
  'evil.com?',
  'evil.com#',
  'evil.com\\x',
  'a%2eb',
  'evil.com%00',
  'evil\t.com',
  'evil.com\n',
  '\nevil.com',
  'evil.com\0',
  ' evil.com',
  'evil.com ',
  'evil.com.',
  '.evil.com',
  'evil..com',
  '-evil.com',
  'evil-.com',
  'evil.-com',
  'ev_il.com',
  'ex*mple.com',
  'bücher.example',
  'ex\u00ADample.com',
  'example。com',
  'example.com:',
  'example.com:0',
  'example.com:065',
  'example.com:65536',
  'example.com:99999',
  'example.com:+80',
  'example.com:8e1',
  'example.com:80:80',
  'example.com:http',
  ':80',
  '.',
  '..',
  'http://example.com',
  'example.com,evil.com',
  `${'a'.repeat(64)}.example`,
  `${'a.'.repeat(130)}example`,
]
for (const text of REFUSED) {
  test(`${JSON.stringify(text.slice(0, 40))} of ${text.length} characters names no public registry`, () => {
    assert.equal(parseNamespace(text), undefined)
  })
}

test('a host of 253 characters is a namespace, and one of 254 is not', () => {
  const fits = `${'a.'.repeat(125)}bcd`
  assert.equal(fits.length, 253)
  assert.equal(parseNamespace(fits), fits)
  assert.equal(parseNamespace(`${fits}e`), undefined)
})

const CONFIGURED: readonly (readonly [string, string | undefined])[] = [
  ['localhost:5000', 'localhost:5000'],
  ['my_registry', 'my_registry'],
  ['10.0.0.7:5000', '10.0.0.7:5000'],
  ['[::1]:5000', '[::1]:5000'],
  ['Harbor', 'harbor'],
  ['harbor:443', 'harbor'],
  ['index.docker.io', 'docker.io'],
  ['', undefined],
  ['a/b', undefined],
  ['a b', undefined],
  ['..', undefined],
  ['a..b', undefined],
  ['.hidden', undefined],
  ['_tags', undefined],
  ['a@b', undefined],
  ['a%b', undefined],
  ['é', undefined],
  ['a'.repeat(254), undefined],
]
for (const [text, namespace] of CONFIGURED) {
  test(`the configured ${JSON.stringify(text.slice(0, 30))} is ${namespace ?? 'no namespace'}`, () => {
    assert.equal(parseConfiguredNamespace(text), namespace)
  })
}

test('no spelling of the corpus of hostile hosts is a namespace that a URL parser takes for an address or another host', () => {
  assert.ok(HOST_CORPUS.length >= 300)
  for (const text of HOST_CORPUS) {
    const namespace = parseNamespace(text)
    if (namespace === undefined) continue
    const url = new URL(`https://${namespace}`)
    assert.equal(url.host, namespace)
    assert.equal(isIP(url.hostname), 0)
    assert.ok(url.hostname.includes('.'))
  }
})

test('whatever is a namespace is one path component that no URL parser reads as another host', () => {
  const text = fc.string({ unit: fc.constantFrom(...'aB0.-_:/@%?#\\[] ①x'.split('')), maxLength: 16 })
  fc.assert(
    fc.property(text, candidate => {
      const namespace = parseNamespace(candidate)
      if (namespace === undefined) return
      assert.equal(new URL(`https://${namespace}`).host, namespace)
      assert.equal(parseNamespace(namespace), namespace)
    }),
    { numRuns: 5000 },
  )
})
