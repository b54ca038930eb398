import { createHash } from 'node:crypto'
import { Agent, type IncomingMessage, request } from 'node:http'

/** One reader of one blob: a connection of its own, hashing what comes and keeping nothing. */
export interface Reading {
  /** Resolves with the status and headers' Content-Range when the first body byte is here. */
  readonly firstByte: Promise<{ readonly status: number; readonly contentRange: string | undefined }>
  /** Resolves at the end of a whole body; rejects when it is cut. */
  readonly finished: Promise<{ readonly digest: string; readonly bytes: number }>
  /** Resolves once this many bytes have come. */
  readonly reached: (bytes: number) => Promise<void>
}

/** Starts to read `url`, with a Range when one is given. */
export function read(url: string, range?: string): Reading {
  const hash = createHash('sha256')
  const first = Promise.withResolvers<{ status: number; contentRange: string | undefined }>()
  const finished = Promise.withResolvers<{ digest: string; bytes: number }>()
  const marks: { at: number; resolve: () => void; reject: (error: unknown) => void }[] = []
  let bytes = 0
  const fail = (error: unknown): void => {
    first.reject(error)
    finished.reject(error)
    for (const mark of marks) mark.reject(error)
  }
  // A rejection that nobody has begun to wait for must not end the process; who waits still gets it.
  for (const promise of [first.promise, finished.promise]) promise.catch(() => undefined)
  const headers = range ? { range } : {}
  const sent = request(
    url,
    { agent: new Agent({ keepAlive: false }), headers },
    (response: IncomingMessage) => {
      const status = response.statusCode ?? 0
      response.on('data', (chunk: Buffer) => {
        first.resolve({ status, contentRange: response.headers['content-range'] })
        hash.update(chunk)
        bytes += chunk.length
        for (const mark of marks) if (bytes >= mark.at) mark.resolve()
      })
      response.once('end', () => {
        if (response.complete) finished.resolve({ digest: `sha256:${hash.digest('hex')}`, bytes })
      })
      response.once('close', () => {
        if (!response.complete) fail(new Error(`cut after ${bytes} bytes (status ${status})`))
      })
      response.once('error', fail)
    },
  )
  sent.once('error', fail)
  sent.end()
  return {
    firstByte: first.promise,
    finished: finished.promise,
    reached: at => {
      const mark = Promise.withResolvers<void>()
      marks.push({ at, resolve: mark.resolve, reject: mark.reject })
      if (bytes >= at) mark.resolve()
      return mark.promise
    },
  }
}
