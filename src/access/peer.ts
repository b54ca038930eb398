/** The other side of a connection, as far as the connection itself tells. */
export interface Peer {
  /** Address of the client; `undefined` for a client on a unix socket. */
  readonly address: string | undefined
  /** True if the connection uses TLS. */
  readonly isEncrypted: boolean
  /** Certificate that the client presented; `undefined` if it presented none. */
  readonly certificate: ClientCertificate | undefined
}

/** A client certificate, reduced to the names that rules can match. */
export interface ClientCertificate {
  /** Common name of the subject; `undefined` if it has none or several. */
  readonly commonName: string | undefined
  readonly organizations: readonly string[]
  /** Subject alternative names, by type. */
  readonly dnsNames: readonly string[]
  readonly uris: readonly string[]
  readonly emails: readonly string[]
  /** SHA-256 of the whole certificate, in upper-case hex with colons. */
  readonly fingerprint: string
  /** Why the certificate must not be believed; `undefined` if the client CA vouches for it. */
  readonly problem: string | undefined
}
