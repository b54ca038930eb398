import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HeadBucketCommand } from '@aws-sdk/client-s3'
import { S3Connection } from '../../src/storage/s3/connection.ts'
import type { CallOptions, DirectRequest } from '../../src/storage/s3/direct.ts'
import { readSmallObject } from '../../src/storage/s3/records.ts'
import { seenS3Events } from '../storage/s3/rooms.ts'
import { makeBucket } from './rig/bucket.ts'
import { againstServers } from './servers.ts'

/** Swift ends the body of an answer to a HEAD that has none, which breaks the connection now and then. */
const ATTEMPTS = 5

async function sent(
  { direct }: S3Connection,
  request: DirectRequest,
  options: CallOptions,
): Promise<true | 'absent' | undefined> {
  for (let attempt = 1; ; attempt += 1) {
    const answer = await direct.send(request, options)
    if (answer !== undefined || attempt === ATTEMPTS) return answer
  }
}

againstServers('requests past the SDK', server => {
  test('are signed as the server wants it, for any key and body', async t => {
    const connection = new S3Connection({ address: await makeBucket(server()), events: seenS3Events() })
    t.after(() => connection[Symbol.dispose]())
    const { bucket, limits } = connection
    const key = connection.key("a/b+c (d)!'*=~_-.é")
    const bodies = [Buffer.from('some bytes'), Buffer.alloc(0), Buffer.alloc(50_000, 'x')]
    await connection.send('HeadBucket', limits.quick, async (client, options) => {
      await client.send(new HeadBucketCommand({ Bucket: bucket }), options)
      const send = async (request: DirectRequest): Promise<unknown> =>
        await sent(connection, request, options)
      assert.equal(await send({ method: 'HEAD', key }), 'absent')
      for (const body of bodies) {
        assert.equal(await send({ method: 'PUT', key, body, contentType: 'text/plain' }), true)
        assert.equal(await send({ method: 'HEAD', key }), true)
      }
    })
    assert.deepEqual((await readSmallObject(connection, key))?.bytes, bodies.at(-1))
  })
})
