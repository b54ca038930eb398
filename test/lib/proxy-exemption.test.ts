import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isProxyExempt } from '../../src/lib/proxy-exemption.ts'

/** Entry of NO_PROXY, hosts that it exempts, hosts that it does not. */
const RULES: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['*', ['quay.io:443', '10.0.0.1:443'], []],
  ['example.com', ['example.com:443', 'a.example.com:443'], ['badexample.com:443', 'example.com.evil:443']],
  ['.example.com', ['a.example.com:443'], ['example.com:443']],
  ['*.example.com', ['a.b.example.com:443'], ['example.com:443']],
  ['example.com:5000', ['example.com:5000', 'a.example.com:5000'], ['example.com:443']],
  ['10.0.0.0/8', ['10.9.8.7:443'], ['11.0.0.1:443', 'ten.example.com:443']],
  ['10.0.0.1', ['10.0.0.1:443'], ['10.0.0.2:443']],
  ['10.0.0.1:5000', ['10.0.0.1:5000'], ['10.0.0.1:443']],
  ['fd00::/8', ['fd00::1:443'], ['fe80::1:443']],
  ['[fd00::1]', ['fd00::1:443'], ['fd00::2:443']],
  ['[fd00::1]:5000', ['fd00::1:5000'], ['fd00::1:443']],
  ['', ['localhost:443', '127.0.0.1:443', 'x.localhost:443', '::1:443'], ['quay.io:443']],
]

for (const [entry, exempt, proxied] of RULES) {
  test(`"${entry}" of NO_PROXY exempts ${exempt.join(', ')} and not ${proxied.join(', ') || 'less'}`, () => {
    for (const text of exempt) assert.ok(isProxyExempt([entry], subject(text)), text)
    for (const text of proxied) assert.ok(!isProxyExempt([entry], subject(text)), text)
  })
}

function subject(text: string): { readonly hostname: string; readonly port: number } {
  const colon = text.lastIndexOf(':')
  return { hostname: text.slice(0, colon), port: Number(text.slice(colon + 1)) }
}
