import { createHash } from 'node:crypto'
import { type IncomingMessage, request } from 'node:http'

/** A blob as a client got it. */
export interface PulledBlob {
  readonly status: number
  readonly sizeBytes: number
  readonly digest: string
  readonly headers: IncomingMessage['headers']
}

/** Pulls by GET, following no redirect, and hashes what comes instead of keeping it. */
export async function pull(url: string, headers: Record<string, string> = {}): Promise<PulledBlob> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request(url, { headers, agent: false }, resolve).on('error', reject).end()
  })
  const hash = createHash('sha256')
  let sizeBytes = 0
  for await (const piece of response as AsyncIterable<Buffer>) {
    sizeBytes += piece.length
    hash.update(piece)
  }
  if (!response.complete) throw new Error(`the body ended after ${sizeBytes} bytes`)
  return {
    status: response.statusCode ?? 0,
    sizeBytes,
    digest: `sha256:${hash.digest('hex')}`,
    headers: response.headers,
  }
}
