import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { OciError, UpstreamError } from '../../src/oci/error.ts'
import { parseWebhookUrl, Webhook } from '../../src/upstream/webhook.ts'

interface Played extends AsyncDisposable {
  readonly url: string
  readonly requests: IncomingMessage[]
  readonly bodies: string[]
}

async function listen(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<Played> {
  const requests: IncomingMessage[] = []
  const bodies: string[] = []
  const server = createServer((request, response) => {
    requests.push(request)
    let body = ''
    request.on('data', (piece: Buffer) => {
      body += piece.toString()
    })
    request.on('end', () => {
      bodies.push(body)
      answer(request, response)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/hook?token=1`,
    requests,
    bodies,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function webhookTo(url: string, overrides: Partial<ConstructorParameters<typeof Webhook>[0]> = {}): Webhook {
  return new Webhook({
    name: 'ci',
    url,
    caFile: undefined,
    allowAddresses: [],
    timeoutMs: 20_000,
    instance: 'test',
    version: '1.2.3',
    clock: systemClock,
    ...overrides,
  })
}

const FOREVER = new AbortController().signal

test('a webhook is sent the fields and the body, at its whole address', async () => {
  await using played = await listen((_request, response) => response.writeHead(204).end())
  await using webhook = webhookTo(played.url)
  const answer = await webhook.post({ 'content-type': 'text/plain', 'webhook-id': '7' }, 'hello', FOREVER)
  assert.deepEqual(answer, { status: 204, retryAfterMs: undefined })
  const [request] = played.requests
  assert.equal(request?.method, 'POST')
  assert.equal(request.url, '/hook?token=1')
  assert.equal(request.headers['webhook-id'], '7')
  assert.equal(request.headers['user-agent'], 'entrepot/1.2.3')
  assert.deepEqual(played.bodies, ['hello'])
})

test('a redirect is not followed', async () => {
  await using played = await listen((_request, response) =>
    response.writeHead(307, { Location: '/elsewhere' }).end(),
  )
  await using webhook = webhookTo(played.url)
  assert.equal((await webhook.post({}, '', FOREVER)).status, 307)
  assert.equal(played.requests.length, 1)
})

test('an answer without an end is cut, and its status counts', async () => {
  let sentBytes = 0
  await using played = await listen((_request, response) => {
    response.writeHead(200)
    const piece = Buffer.alloc(64 * 1024)
    const pour = (): void => {
      while (!response.destroyed && sentBytes < 1024 ** 3) {
        sentBytes += piece.length
        if (!response.write(piece)) {
          response.once('drain', pour)
          return
        }
      }
    }
    pour()
  })
  await using webhook = webhookTo(played.url)
  assert.equal((await webhook.post({}, '', FOREVER)).status, 200)
  assert.ok(sentBytes < 64 * 1024 ** 2, `${sentBytes} bytes were taken`)
})

test('an answer that never comes is a failure', async () => {
  await using played = await listen(() => undefined)
  await using webhook = webhookTo(played.url, { timeoutMs: 1 })
  await assert.rejects(webhook.post({}, '', FOREVER), UpstreamError)
})

test('a pause that the server asks for is read', async () => {
  await using played = await listen((_request, response) =>
    response.writeHead(429, { 'Retry-After': '90' }).end(),
  )
  await using webhook = webhookTo(played.url)
  assert.deepEqual(await webhook.post({}, '', FOREVER), { status: 429, retryAfterMs: 90_000 })
})

test('a name that leads to loopback is refused unless its addresses are allowed, and metadata always is', async () => {
  await using played = await listen((_request, response) => response.writeHead(200).end())
  const named = played.url.replace('127.0.0.1', 'hooks.example.com')
  const resolve = async (): Promise<readonly string[]> => await Promise.resolve(['127.0.0.1'])
  await using refused = webhookTo(named, { resolve })
  await assert.rejects(refused.post({}, '', FOREVER), (error: unknown) => {
    assert.ok(error instanceof OciError)
    assert.match(error.message, /in the entry "- name: ci" of the upstream file/)
    return true
  })
  await using metadata = webhookTo(named, { resolve: async () => await Promise.resolve(['169.254.169.254']) })
  await assert.rejects(metadata.post({}, '', FOREVER), OciError)
  assert.equal(played.requests.length, 0)
  await using allowed = webhookTo(named, { resolve, allowAddresses: ['127.0.0.0/8'] })
  assert.equal((await allowed.post({}, '', FOREVER)).status, 200)
})

test('only an absolute http or https URL without a user is the address of a webhook', () => {
  assert.equal(parseWebhookUrl('https://hooks.example.com/a?b=c')?.path, '/a?b=c')
  assert.equal(parseWebhookUrl('http://10.0.0.1:8080')?.origin.port, 8080)
  for (const text of [
    '',
    '/hook',
    '//a/b',
    'ftp://a/b',
    'https://',
    'https://u:p@a/b',
    'https://0x7f.1/',
    'https://a/ b',
  ])
    assert.equal(parseWebhookUrl(text), undefined, text)
})
