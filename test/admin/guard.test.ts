import assert from 'node:assert/strict'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { Rules } from '../../src/access/rules.ts'
import { identifyAdminSender, requireNoWebPage } from '../../src/admin/guard.ts'
import { OciError } from '../../src/oci/error.ts'
import { ANONYMOUS } from '../../src/oci/identity.ts'
import { sectionsOf } from '../support/sections.ts'

const TOKEN = 'a-token-of-some-length'
/** Knows one administrator, root, and one other user. */
const access: Parameters<typeof identifyAdminSender>[1]['access'] = {
  rules: new Rules(sectionsOf('rules: [{who: root, may: admin}]').rules),
  identify: ({ authorization }) => {
    if (authorization === 'wrong') throw new OciError('UNAUTHORIZED', 'a test says no')
    const isKnown = authorization === 'root' || authorization === 'alice'
    return isKnown ? { name: authorization, groups: [] } : ANONYMOUS
  },
}
/** The name of the administrator; throws what refuses the request. */
const guard = async (headers: IncomingHttpHeaders, token?: string, isSocket = false): Promise<string> => {
  const request = { headers, socket: {} } as IncomingMessage
  const { who, refusal } = await identifyAdminSender(request, { token, isSocket, access })
  if (refusal !== undefined) throw refusal
  return who
}

for (const host of [
  'localhost',
  'localhost:8081',
  '127.0.0.1:8081',
  '127.9.9.9',
  '[::1]:8081',
  'LOCALHOST:1',
]) {
  test(`without a token, a request to ${host} is let through`, async () => {
    await assert.doesNotReject(guard({ host }))
  })
}

for (const host of [
  undefined,
  '',
  'evil.example:8081',
  'localhost.evil.example',
  '127.0.0.1.evil.example',
  'x@localhost',
  '10.0.0.1:8081',
]) {
  test(`without a token, a request to ${host ?? 'no host'} is refused: a name that leads here may be anybody's`, async () => {
    await assert.rejects(guard(host === undefined ? {} : { host }), { code: 'DENIED' })
  })
}

test('no web page administers, whatever it shows and wherever it is from', async () => {
  const host = 'localhost:8081'
  const authorization = `Bearer ${TOKEN}`
  for (const origin of ['https://evil.example', 'http://localhost:8081', 'null'])
    await assert.rejects(guard({ host, origin, authorization }, TOKEN), { code: 'DENIED' })
  for (const site of ['cross-site', 'same-site', 'same-origin'])
    await assert.rejects(guard({ host, 'sec-fetch-site': site }), { code: 'DENIED' })
  await assert.doesNotReject(guard({ host, 'sec-fetch-site': 'none' }))
})

test('with a token, whoever shows it is let through under any name, and nobody else under any', async () => {
  await assert.doesNotReject(guard({ host: 'mirror:8081', authorization: `Bearer ${TOKEN}` }, TOKEN))
  await assert.doesNotReject(guard({ authorization: `bearer  ${TOKEN}` }, TOKEN))
  for (const authorization of [
    undefined,
    '',
    'Bearer',
    `Bearer ${TOKEN}x`,
    `Basic ${TOKEN}`,
    TOKEN,
    'Bearer undefined',
  ]) {
    const headers = authorization === undefined ? { host: 'localhost' } : { host: 'localhost', authorization }
    await assert.rejects(guard(headers, TOKEN), { code: 'UNAUTHORIZED' })
  }
})

test('the metrics need no token, but the name of this machine where there is none, and no web page gets them', async () => {
  const look = (headers: IncomingHttpHeaders, token?: string): void =>
    requireNoWebPage({ headers } as IncomingMessage, { token, isSocket: false })
  assert.doesNotThrow(() => look({ host: 'localhost:8081' }))
  assert.doesNotThrow(() => look({ host: '10.1.2.3:8081' }, TOKEN))
  assert.throws(() => look({ host: 'evil.example:8081' }), { code: 'DENIED' })
  assert.throws(() => look({ host: '10.1.2.3:8081', origin: 'http://evil.example' }, TOKEN), {
    code: 'DENIED',
  })
})

test('a unix socket has no name that could lead a web page to it', async () => {
  await assert.doesNotReject(guard({ host: 'whatever' }, undefined, true))
})

test('an identity with the right to administer is let through beside the token, and named', async () => {
  const ask = async (authorization: string): Promise<string> =>
    await guard({ host: 'm', authorization }, TOKEN)
  assert.equal(await ask('root'), 'root')
  assert.equal(await ask(`Bearer ${TOKEN}`), 'administrator')
  await assert.rejects(ask('alice'), { code: 'DENIED' })
  await assert.rejects(ask('nobody'), { code: 'UNAUTHORIZED' })
  await assert.rejects(ask('wrong'), { code: 'UNAUTHORIZED' })
  await assert.rejects(guard({ host: 'm', authorization: 'root', origin: 'x' }, TOKEN), { code: 'DENIED' })
})
