import type { Secret } from '../secret.ts'

/** Other replicas of this mirror. */
export interface PeersConfig {
  /** Address for them. */
  readonly listen: PeerHost & { readonly kind: 'tcp' }
  /** All of them by address, this one included; or a name that resolves to their addresses. */
  readonly members:
    | { readonly kind: 'list'; readonly addresses: readonly PeerHost[] }
    | { readonly kind: 'dns'; readonly name: PeerHost }
  readonly secret: Secret
  readonly secretFile: string
  readonly cluster: string
}

/** A host, an IPv6 address without its brackets, and a port. */
export interface PeerHost {
  readonly host: string
  readonly port: number
}
