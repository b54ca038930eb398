import { writeFile } from 'node:fs/promises'
import { finishedChildrenCpuSeconds } from './cpu.ts'
import type { Load } from './load.ts'
import type { Room } from './room.ts'

/** Order to `wrk`. */
export interface WrkOrder {
  readonly address: string
  /** The certificate is not checked. */
  readonly isEncrypted?: boolean
  /** Paths, requested in turn. */
  readonly paths: readonly string[]
  readonly headers?: Readonly<Record<string, string>>
  /** Body of a POST to a single path; a GET by default. */
  readonly body?: string
  readonly connections: number
  readonly seconds: number
  /** Core of the client; any core by default. */
  readonly core?: number | undefined
}

const MARK = 'entrepot-bench '

/** Loads a server with `wrk`, over kept connections and with one thread. */
export async function runWrk(room: Room, order: WrkOrder): Promise<Load> {
  const { address, isEncrypted = false, paths, connections, seconds, core } = order
  const script = room.path('wrk.lua')
  await writeFile(script, scriptOf(order))
  const before = finishedChildrenCpuSeconds()
  const binding = core === undefined ? [] : ['taskset', '--cpu-list', String(core)]
  const flags = ['--threads', '1', '--connections', String(connections), '--duration', `${seconds}s`]
  const output = await room.run([
    ...binding,
    'wrk',
    ...flags,
    '--script',
    script,
    `${isEncrypted ? 'https' : 'http'}://${address}${paths[0] ?? '/'}`,
  ])
  return { ...parseWrk(output), clientCpuSeconds: finishedChildrenCpuSeconds() - before }
}

/**
 * wrk itself requests a single path. Several paths take prepared requests, since a script costs one call per
 * request.
 */
function scriptOf({ paths, headers = {}, body }: WrkOrder): string {
  const fields = Object.entries(headers).map(
    ([name, value]) => `wrk.headers[${quote(name)}] = ${quote(value)}`,
  )
  const post = body === undefined ? '' : `wrk.method = 'POST'\nwrk.body = ${quote(body)}`
  const many = `
local prepared, turn = {}, 0
init = function(args)
  for _, path in ipairs({${paths.map(quote).join(', ')}}) do prepared[#prepared + 1] = wrk.format('GET', path) end
end
request = function()
  turn = turn % #prepared + 1
  return prepared[turn]
end
`
  return `${fields.join('\n')}
${post}
${paths.length > 1 ? many : ''}
done = function(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format('${MARK}{"requests":%d,"bytes":%d,"microseconds":%d,"p50":%d,"p99":%d,"failed":%d}\\n',
    summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
`
}

function quote(text: string): string {
  return `'${text.replaceAll(/[\\']/g, '\\$&')}'`
}

/** Reads the output of the script of {@link runWrk}; throws if a request failed or none was made. */
export function parseWrk(output: string): Omit<Load, 'clientCpuSeconds'> {
  const line = output.split('\n').find(text => text.startsWith(MARK))
  if (line === undefined) throw new Error(`wrk has said nothing about its run:\n${output}`)
  const said = JSON.parse(line.slice(MARK.length)) as Record<
    'requests' | 'bytes' | 'microseconds' | 'p50' | 'p99' | 'failed',
    number
  >
  if (said.failed > 0)
    throw new Error(`of ${said.requests} requests of wrk ${said.failed} failed:\n${output}`)
  if (said.requests === 0) throw new Error(`no request of wrk was answered:\n${output}`)
  return {
    requests: said.requests,
    bytes: said.bytes,
    seconds: said.microseconds / 1e6,
    p50Ms: said.p50 / 1000,
    p99Ms: said.p99 / 1000,
  }
}
