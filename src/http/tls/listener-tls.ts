import { constants } from 'node:crypto'
import type { TlsOptions } from 'node:tls'

/** Certificate and terms of a TLS listener. Other threads get a copy. */
export interface ListenerTls {
  /** The certificate and its intermediates, in PEM. */
  readonly certificates: string
  readonly key: string
  /** Whose client certificates are believed; `undefined` if clients are not asked for one. */
  readonly clients: { readonly ca: string; readonly isRequired: boolean } | undefined
  /** 48 random bytes. All threads need the same, because a client resumes its session with any of them. */
  readonly ticketKeys: Uint8Array
}

/**
 * Suites of TLS 1.2 with forward secrecy and authenticated encryption, those of TLS 1.3 first. AES-128 comes
 * first, because it is the fastest on machines with AES instructions.
 */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/**
 * HTTP/2 is not offered. It would carry all layers of a node over one connection, and so through one of the
 * serving threads. A transfer that fails would end a stream instead of the connection.
 */
const PROTOCOL = 'http/1.1'

/** Options of Node's TLS server for these terms. Renegotiation is refused: it only costs processor time. */
export function secureOptions({ certificates, key, clients, ticketKeys }: ListenerTls): TlsOptions {
  return {
    cert: certificates,
    key,
    minVersion: 'TLSv1.2',
    ciphers: CIPHERS,
    ALPNProtocols: [PROTOCOL],
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    sessionIdContext: 'entrepot',
    ticketKeys: Buffer.from(ticketKeys),
    ...(clients === undefined
      ? {}
      : { ca: clients.ca, requestCert: true, rejectUnauthorized: clients.isRequired }),
  }
}
