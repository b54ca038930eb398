import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Digest, parseDigest } from '../../../src/oci/digest.ts'

const BLOCK_BYTES = 1024 * 1024

/** A registry of one blob that is too large to be held in memory. */
export interface EndlessUpstream extends AsyncDisposable {
  readonly host: string
  readonly digest: Digest
  readonly sizeBytes: number
  /** How often the blob was fetched. */
  readonly fetches: () => number
}

/** Starts an upstream whose blob is one block of random bytes, again and again. */
export async function startEndlessUpstream(blocks: number): Promise<EndlessUpstream> {
  const block = randomBytes(BLOCK_BYTES)
  const hash = createHash('sha256')
  for (let index = 0; index < blocks; index += 1) hash.update(block)
  const digest = parseDigest(`sha256:${hash.digest('hex')}`)
  if (digest === undefined) throw new Error('a digest is a digest')
  const sizeBytes = blocks * BLOCK_BYTES
  let fetches = 0
  const server = createServer((request, response) => {
    response.setHeader('Content-Length', sizeBytes)
    if (request.method === 'HEAD') return void response.end()
    fetches += 1
    let sent = 0
    const pour = (): void => {
      while (sent < blocks) {
        sent += 1
        if (!response.write(block)) return void response.once('drain', pour)
      }
      response.end()
    }
    pour()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    digest,
    sizeBytes,
    fetches: () => fetches,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
