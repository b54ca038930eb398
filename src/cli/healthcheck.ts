import { request as tlsRequest } from 'node:https'
import { type ClientListener, clientListeners, formatListen } from '../config/listen.ts'
import type { LoadedConfig } from '../config/load.ts'
import { request as plainRequest } from '../lib/libraries.ts'
import { hasCode } from '../lib/system-error.ts'
import { type Environment, EXIT, type ExitCode } from './environment.ts'

const ANSWER_MS = 5000

/**
 * Checks that the mirror with this configuration is alive, by `GET /livez` on its listener: for probes in
 * images without another HTTP client. Use `/readyz` to check that it can serve.
 */
export async function healthcheck(environment: Environment, { config }: LoadedConfig): Promise<ExitCode> {
  const listeners = clientListeners(config)
  const listener = listeners.find(({ isTls }) => !isTls) ?? listeners[0]
  if (listener === undefined) return EXIT.failure
  const name = formatListen(listener.address)
  try {
    const status = await statusOf(listener)
    if (status === 200) return EXIT.ok
    environment.stderr.write(`entrepot: ${name} answers ${status}\n`)
  } catch (error) {
    if (config.tls?.clients?.isRequired === true && hasCode(error, ...NO_CERTIFICATE)) return EXIT.ok
    environment.stderr.write(`entrepot: ${name} does not answer: ${reasonOf(error)}\n`)
  }
  return EXIT.failure
}

const WILDCARDS: ReadonlyMap<string, string> = new Map([
  ['0.0.0.0', '127.0.0.1'],
  ['::', '::1'],
])

/** A mirror that asks a client for its certificate is alive. */
const NO_CERTIFICATE = [
  'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
  'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE',
] as const

async function statusOf({ address, isTls }: ClientListener): Promise<number> {
  const target =
    address.kind === 'unix'
      ? { socketPath: address.path }
      : { host: WILDCARDS.get(address.host) ?? address.host, port: address.port }
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const signal = AbortSignal.timeout(ANSWER_MS)
  // The certificate is for other names than this one, and whether it is valid is not the question.
  const options = { ...target, path: '/livez', agent: false, signal, rejectUnauthorized: false } as const
  const asked = (isTls ? tlsRequest : plainRequest)(options, response => {
    response.resume()
    resolve(response.statusCode ?? 0)
  })
  asked.on('error', reject)
  asked.end()
  return await promise
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
