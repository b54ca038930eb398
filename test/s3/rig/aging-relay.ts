import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'

/** An S3 server as a client sees it that comes back later: what is stored has grown older. */
export interface AgingRelay extends AsyncDisposable {
  readonly endpoint: string
  /** Everything that is stored now is older by so much from now on. */
  age(ms: number): void
}

/**
 * Passes requests on to an S3 server. `Last-Modified` of what was stored before {@link AgingRelay.age} is
 * moved back in the answers; S3 itself cannot be told when an object was written.
 */
export async function startAgingRelay(target: string): Promise<AgingRelay> {
  const { hostname, port } = new URL(target)
  const agent = new Agent({ keepAlive: true })
  let agedMs = 0
  /** What all objects had aged when each of these was written. */
  const agedBeforeMs = new Map<string, number>()
  const pathOf = ({ url = '' }: IncomingMessage): string => url.split('?', 1)[0] ?? ''

  const pass = async (asked: IncomingMessage, reply: ServerResponse): Promise<void> => {
    const { method = 'GET', url, rawHeaders } = asked
    if (method === 'PUT') agedBeforeMs.set(pathOf(asked), agedMs)
    const onward = request({ hostname, port, agent, method, path: url, headers: rawHeaders, setHost: false })
    const sent = pipeline(asked, onward)
    const [answer] = (await once(onward, 'response')) as [IncomingMessage]
    await sent
    const { 'last-modified': modified, ...headers } = answer.headers
    const olderMs = agedMs - (agedBeforeMs.get(pathOf(asked)) ?? 0)
    const dated =
      modified === undefined
        ? {}
        : { 'last-modified': new Date(Date.parse(modified) - olderMs).toUTCString() }
    reply.writeHead(answer.statusCode ?? 500, { ...headers, ...dated })
    await pipeline(answer, reply)
  }

  const server = createServer((asked, reply) => {
    pass(asked, reply).catch(() => reply.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    age: ms => {
      agedMs += ms
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      const closed = once(server, 'close')
      server.close()
      await closed
      agent.destroy()
    },
  }
}
