import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { bodyOf, dropRest } from '../../src/http/request-body.ts'
import { gathered } from '../../src/lib/read-ahead.ts'

const PIECE = Buffer.alloc(1000, 7)

for (const [who, read] of [
  ['a reader', (pieces: AsyncIterable<Uint8Array>) => pieces],
  ['a reader that reads ahead', (pieces: AsyncIterable<Uint8Array>) => gathered(pieces, 1024)],
] as const) {
  test(`the rest of a body that ${who} has left is dropped, so that the connection can be used again`, async () => {
    await using server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const headers = { 'content-length': 2 * PIECE.length }
    const sent = request({ host: '127.0.0.1', port, method: 'PUT', headers, agent: false })
    sent.write(PIECE)
    const [received, response] = (await once(server, 'request')) as [IncomingMessage, ServerResponse]
    const body = bodyOf(received, response)
    for await (const _ of read(body.pieces)) break
    const dropped = dropRest(body)
    sent.end(PIECE)
    const isDropped = await dropped
    response.end()
    const [answer] = (await once(sent, 'response')) as [IncomingMessage]
    answer.resume()
    await once(answer, 'end')
    assert.equal(isDropped, true)
  })
}
