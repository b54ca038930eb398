import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseAddress, parseCidr } from '../../../src/lib/ip-address.ts'
import { OciError } from '../../../src/oci/error.ts'
import type { AddressKind } from '../../../src/upstream/dial/address.ts'
import {
  type DialTerms,
  judgeDial,
  requireMirrored,
  requireOrigin,
  requireProxied,
} from '../../../src/upstream/dial/policy.ts'
import { parseOrigin } from '../../../src/upstream/dial/target.ts'
import { must, namespace } from '../../support/registries.ts'

const PUBLIC: DialTerms & { kind: 'dynamic' } = {
  kind: 'dynamic',
  namespace: namespace('quay.io'),
  isAnyAddress: false,
  trustsProxies: false,
}
const ANY: DialTerms = { ...PUBLIC, isAnyAddress: true }

function configured(host: string, ...allowed: readonly string[]): DialTerms & { kind: 'configured' } {
  return {
    kind: 'configured',
    namespace: namespace('corp.example'),
    origin: must(parseOrigin(host, 'https:')),
    allowed: allowed.map(text => must(parseCidr(text))),
    realms: [],
  }
}

function refusal(terms: DialTerms, host: string, address: string, ownKind?: AddressKind): string | undefined {
  const origin = must(parseOrigin(host, 'https:'))
  return judgeDial(terms, origin, must(parseAddress(address)), ownKind)?.message
}

test('a public namespace may be dialled at global addresses only', () => {
  assert.equal(refusal(PUBLIC, 'quay.io', '1.1.1.1'), undefined)
  for (const address of ['10.0.0.1', '127.0.0.1', '169.254.169.254', '::1', 'fd00::1', '198.18.0.1']) {
    assert.match(refusal(PUBLIC, 'quay.io', address) ?? '', /"- namespace: quay\.io".*"--namespaces any"/)
  }
})

test('the refusal of a public namespace does not tell the address', () => {
  assert.doesNotMatch(refusal(PUBLIC, 'quay.io', '10.20.30.40') ?? '', /10\.20|10\.0\.0/)
})

test('"any" dials a namespace at whatever address it has', () => {
  assert.equal(refusal(ANY, 'quay.io', '10.0.0.1'), undefined)
  assert.equal(refusal(ANY, 'quay.io', '127.0.0.1'), undefined)
})

test('a configured upstream may live at private addresses, but not at loopback, link-local or metadata ones', () => {
  const terms = configured('corp.example')
  assert.equal(refusal(terms, 'corp.example', '10.0.0.1'), undefined)
  assert.equal(refusal(terms, 'corp.example', 'fd12::1'), undefined)
  assert.match(
    refusal(terms, 'corp.example', '127.0.0.1') ?? '',
    /allow_addresses: \[127\.0\.0\.0\/8\].*corp\.example/,
  )
  assert.match(refusal(terms, 'corp.example', 'fe80::1') ?? '', /allow_addresses: \[fe80::\/10\]/)
  assert.match(
    refusal(terms, 'corp.example', '169.254.169.254') ?? '',
    /allow_addresses: \[169\.254\.169\.254\/32\]/,
  )
})

test('allow_addresses lets exactly its addresses in', () => {
  const terms = configured('corp.example', '127.0.0.0/8', '169.254.169.254')
  assert.equal(refusal(terms, 'corp.example', '127.5.5.5'), undefined)
  assert.equal(refusal(terms, 'corp.example', '169.254.169.254'), undefined)
  assert.notEqual(refusal(terms, 'corp.example', '169.254.170.2'), undefined)
  assert.notEqual(refusal(terms, 'corp.example', '::1'), undefined)
})

test('a host that is written as a loopback or link-local address is meant as one, but never as a metadata service', () => {
  for (const host of ['127.0.0.1:5000', 'localhost:5000', 'registry.localhost', '[::1]:5000']) {
    assert.equal(refusal(configured(host), host, '127.0.0.1'), undefined, host)
    assert.notEqual(refusal(configured(host), host, '169.254.1.1'), undefined, host)
  }
  assert.equal(refusal(configured('169.254.1.1'), '169.254.1.1', '169.254.1.1'), undefined)
  assert.notEqual(refusal(configured('169.254.169.254'), '169.254.169.254', '169.254.169.254'), undefined)
})

test('an upstream at a loopback or link-local address leads to the same host only, at any port', () => {
  const terms = configured('127.0.0.1:5000')
  assert.equal(refusal(terms, '127.0.0.1:9000', '127.0.0.1'), undefined)
  for (const host of ['127.0.0.2:5000', 'localhost:5000', 'rebound.example.com'])
    assert.match(refusal(terms, host, '127.0.0.1') ?? '', /allow_addresses: \[127\.0\.0\.0\/8\]/, host)
  assert.notEqual(refusal(configured('169.254.1.1'), 'rebound.example.com', '169.254.1.1'), undefined)
  assert.equal(refusal(configured('127.0.0.1', '127.0.0.0/8'), 'localhost', '127.0.0.1'), undefined)
})

test('where an upstream leads may be private only if the upstream is', () => {
  const terms = configured('corp.example')
  assert.equal(refusal(terms, 'minio.corp.example', '10.0.0.2', 'private'), undefined)
  assert.match(
    refusal(terms, 'minio.corp.example', '10.0.0.2', 'global') ?? '',
    /allow_addresses: \[10\.0\.0\.0\/8\]/,
  )
  assert.notEqual(refusal(terms, 'minio.corp.example', '10.0.0.2', undefined), undefined)
  assert.notEqual(refusal(terms, 'minio.corp.example', '127.0.0.1', 'private'), undefined)
})

test('"configured" refuses every namespace that is not, naming the entry that would allow it', () => {
  assert.throws(
    () => requireMirrored(namespace('quay.io'), 'configured'),
    (error: unknown) => {
      assert.ok(error instanceof OciError)
      assert.equal(error.code, 'DENIED')
      assert.match(error.message, /"- namespace: quay\.io".*"--namespaces public"/)
      return true
    },
  )
})

test('names of inner networks and ports of other protocols are refused without asking the DNS', () => {
  const refused = [
    'printer.local',
    'db.internal',
    'a.localhost',
    'nas.lan',
    'nas.home.arpa',
    'vault.default.svc',
    'x.cluster.local',
    'abc.onion',
    '1.0.0.127.in-addr.arpa',
    'quay.io:22',
    'quay.io:80',
    'quay.io:1023',
    'quay.io:6667',
    'quay.io:2049',
    '127.0.0.1',
    'localhost',
    '[::1]',
    'under_score.example.com',
  ]
  for (const name of refused) {
    assert.throws(() => requireMirrored(namespace(name), 'public'), { code: 'DENIED' }, name)
    assert.throws(() => requireMirrored(namespace(name), 'any'), { code: 'DENIED' }, name)
  }
  for (const name of [
    'quay.io',
    'quay.io:5000',
    'quay.io:1024',
    'quay.io:65535',
    'docker.io',
    'localhost.example.com',
  ]) {
    assert.doesNotThrow(() => requireMirrored(namespace(name), 'public'), name)
  }
})

test('a public upstream leads on only over https, to names and ports that it could have itself', () => {
  const lead =
    (url: string, protocol: 'http:' | 'https:' = 'https:') =>
    () =>
      requireOrigin(PUBLIC, must(parseOrigin(url, protocol)))
  assert.doesNotThrow(lead('cdn.example.com'))
  for (const host of ['1.1.1.1', 'localhost', 'cdn.internal', 'cdn.example.com:25', '[2606:4700::1111]']) {
    assert.throws(lead(host), { code: 'DENIED' }, host)
  }
  assert.throws(lead('cdn.example.com', 'http:'), { code: 'DENIED' })
})

function proxied(terms: DialTerms, url: string): () => void {
  return () => requireProxied(terms, must(parseOrigin(url, 'https:')))
}

test('a registry that is not configured is reached through a proxy only if that proxy is trusted', () => {
  assert.throws(proxied(PUBLIC, 'quay.io'), { code: 'DENIED', message: /"--trust-egress-proxy"/ })
  assert.doesNotThrow(proxied({ ...PUBLIC, trustsProxies: true }, 'quay.io'))
  assert.doesNotThrow(proxied(ANY, 'quay.io'))
})

test('through a proxy a configured upstream leads to no internal name and no forbidden address, unless it is internal itself', () => {
  const terms = configured('registry.example.com')
  for (const host of ['registry.example.com', 'cdn.example.net', '1.1.1.1'])
    assert.doesNotThrow(proxied(terms, host), host)
  for (const host of ['metadata.google.internal', 'vault.default.svc', 'localhost', 'intranet'])
    assert.throws(proxied(terms, host), { code: 'DENIED', message: /"proxy: none"/ }, host)
  for (const host of ['169.254.169.254', '127.0.0.1', '10.0.0.1', '[::1]'])
    assert.throws(proxied(terms, host), { code: 'DENIED', message: /allow_addresses/ }, host)
  assert.doesNotThrow(proxied({ ...terms, realms: ['auth.internal'] }, 'auth.internal'))
  assert.doesNotThrow(proxied(configured('registry.internal'), 'minio.internal'))
})
