import { constants } from 'node:crypto'
import type { PSKCallbackNegotation, TlsOptions } from 'node:tls'

/**
 * TLS by a key that both sides have, instead of certificates (RFC 8446, section 2.2). Each side proves to the
 * other one that it has the key. With the exchange of fresh keys that TLS 1.3 makes, whoever learns the key
 * later cannot read what was recorded.
 */
export interface SharedKey {
  /** Sent in the open. */
  readonly name: string
  /** 32 random bytes. */
  readonly key: Uint8Array
}

/** Why a connection is refused: it is not TLS, or it does not have the key. */
export type KeyRefusal = 'plain' | 'handshake'

/** A listener for those that have the key. */
export interface SharedKeyTls extends SharedKey {
  /** Called for each connection that is refused. */
  readonly refused: (why: KeyRefusal, address: string | undefined) => void
}

const TERMS = {
  // The only suite whose hash is the one that OpenSSL takes for such keys.
  ciphers: 'TLS_AES_128_GCM_SHA256',
  minVersion: 'TLSv1.3',
  secureOptions: constants.SSL_OP_NO_TICKET,
} as const

/** Options of Node's TLS server. */
export function sharedKeyListening({ name, key }: SharedKey): TlsOptions {
  return { ...TERMS, pskCallback: (_, identity) => (identity === name ? key : null) }
}

interface SharedKeyConnecting {
  readonly ciphers: string
  readonly minVersion: 'TLSv1.3'
  readonly secureOptions: number
  readonly pskCallback: () => PSKCallbackNegotation
  readonly rejectUnauthorized: true
  readonly checkServerIdentity: () => Error
}

/**
 * Options of a TLS connection. A side that does not have the key can still offer a certificate, and Node then
 * checks that instead (RFC 8446, section 4.1.1). No certificate will do, whoever issued it.
 */
export function sharedKeyConnecting({ name, key }: SharedKey): SharedKeyConnecting {
  return {
    ...TERMS,
    pskCallback: () => ({ psk: key, identity: name }),
    // Whatever the environment says (`NODE_TLS_REJECT_UNAUTHORIZED`).
    rejectUnauthorized: true,
    checkServerIdentity: () => new Error('the other side has a certificate instead of the key'),
  }
}
