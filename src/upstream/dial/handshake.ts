import type { Socket } from 'node:net'
import {
  connect as connectTls,
  createSecureContext,
  getCACertificates,
  type SecureContext,
  type TLSSocket,
} from 'node:tls'
import { parseAddress } from '../../lib/ip-address.ts'
import { Trouble, troubleOf } from '../failure.ts'
import type { Origin } from './target.ts'

/** Settings of TLS with one upstream. Certificates and keys are PEM texts. */
export interface TlsTerms {
  readonly acceptsInvalidCerts: boolean
  /** Trusted beside the machine's own roots. */
  readonly ca: string | undefined
  readonly clientCert: string | undefined
  readonly clientKey: string | undefined
}

/** One side of TLS, ready for any number of connections. */
export interface TlsSide {
  readonly context: SecureContext
  readonly acceptsInvalidCerts: boolean
}

/** The settings of registries that nobody configured: the machine's roots, and no certificate of our own. */
export const PUBLIC_TLS: TlsTerms = {
  acceptsInvalidCerts: false,
  ca: undefined,
  clientCert: undefined,
  clientKey: undefined,
}

/** Expensive: the context holds a parsed copy of every trusted root. */
export function openTlsSide({ acceptsInvalidCerts, ca, clientCert, clientKey }: TlsTerms): TlsSide {
  const context = createSecureContext({
    ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }),
    ...(clientCert === undefined ? {} : { cert: clientCert, key: clientKey ?? clientCert }),
    minVersion: 'TLSv1.2',
  })
  return { context, acceptsInvalidCerts }
}

/** The same trust, for hosts that an upstream leads to: no client certificate, and no leniency. */
export function elsewhere(terms: TlsTerms): TlsTerms {
  return { ...PUBLIC_TLS, ca: terms.ca }
}

/** There is no second try without TLS, and none without the certificate check. */
export function secure(socket: Socket, origin: Origin, side: TlsSide, withinMs: number): Promise<TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>()
  const isLiteral = parseAddress(origin.hostname) !== undefined
  const secured = connectTls({
    socket,
    host: origin.hostname,
    ...(isLiteral ? {} : { servername: origin.hostname }),
    secureContext: side.context,
    rejectUnauthorized: !side.acceptsInvalidCerts,
    ALPNProtocols: ['http/1.1'],
  })
  const timer = setTimeout(
    () => secured.destroy(new Trouble('tls', 'did not finish the TLS handshake in time')),
    withinMs,
  )
  secured.once('secureConnect', () => resolve(secured))
  secured.once('error', cause => reject(asHandshakeTrouble(cause)))
  secured.once('close', () => reject(new Trouble('tls', 'broke off the TLS handshake')))
  return promise.finally(() => clearTimeout(timer))
}

/** An error of the socket during the handshake is trouble of TLS too. */
function asHandshakeTrouble(cause: Error): Error {
  if (cause instanceof Trouble) return cause
  const { kind, message } = troubleOf(cause)
  return new Trouble('tls', kind === 'tls' ? message : 'did not prove its identity by TLS', { cause })
}
