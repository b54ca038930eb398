import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatProxy, parseProxy, parseProxyBypass, proxyOf } from '../../src/config/proxy.ts'

const VALID = [
  ['http://proxy.example:3128', 'http://proxy.example:3128'],
  ['proxy.example:3128', 'http://proxy.example:3128'],
  ['HTTPS://Proxy.Example/', 'https://proxy.example:443'],
  ['http://10.0.0.1', 'http://10.0.0.1:80'],
  ['http://[fd00::1]:3128', 'http://[fd00::1]:3128'],
  ['http://robot:p%40ss%3Aword@proxy.example:3128', 'http://robot:[redacted]@proxy.example:3128'],
] as const

for (const [text, shown] of VALID) {
  test(`${text} is shown as ${shown}`, () => {
    const proxy = parseProxy(text)
    assert.ok(proxy !== undefined)
    assert.equal(formatProxy(proxy), shown)
    assert.doesNotMatch(JSON.stringify(proxy), /p@ss/)
  })
}

test('the password of a proxy may hold any character, percent-encoded', () => {
  assert.equal(
    parseProxy('http://robot:p%40ss%3Aword@proxy:3128')?.credentials?.password.reveal(),
    'p@ss:word',
  )
})

test('what is not the URL of an http proxy is refused', () => {
  const refused = [
    'socks5://proxy:1080',
    'http://',
    'http://proxy:0',
    'http://proxy:3128/path',
    'http://proxy:3128?x',
    'http://:pw@proxy:3128',
    'http://u%0a:pw@proxy:3128',
    'http://u%zz:pw@proxy:3128',
    'http://0x7f.1:3128',
  ]
  for (const text of refused) assert.equal(parseProxy(text), undefined, text)
})

test('an upstream has the proxy of its scheme, unless NO_PROXY names its host', () => {
  const httpProxy = parseProxy('a.example:1')
  const httpsProxy = parseProxy('b.example:2')
  const egress = { httpProxy, httpsProxy, proxyBypass: ['corp.example'], trustsProxies: false }
  assert.equal(proxyOf({ host: 'quay.io', tls: true }, egress), httpsProxy)
  assert.equal(proxyOf({ host: 'quay.io:80', tls: false }, egress), httpProxy)
  assert.equal(proxyOf({ host: 'registry.corp.example:5000', tls: true }, egress), undefined)
  assert.equal(proxyOf({ host: '[::1]:5000', tls: true }, egress), undefined)
  assert.equal(proxyOf({ host: 'quay.io', tls: true }, undefined), undefined)
})

test('NO_PROXY is a list with commas or spaces, and nothing but hosts', () => {
  assert.deepEqual(parseProxyBypass(' .Corp.example, 10.0.0.0/8 [::1]:5000,'), [
    '.corp.example',
    '10.0.0.0/8',
    '[::1]:5000',
  ])
  assert.equal(parseProxyBypass('http://corp.example?'), undefined)
})
