import { randomBytes } from 'node:crypto'
import type { GateTls } from '../../admission/open-gate.ts'
import { loadCertificate } from '../../config/tls/certificate-files.ts'
import { ensureSelfSigned, selfSignedFiles } from '../../config/tls/self-signed.ts'

/** Files with the certificate of the gate, or a directory for one that it makes. */
export type GateCertificate =
  | { readonly kind: 'files'; readonly certFile: string; readonly keyFile: string }
  | { readonly kind: 'self-signed'; readonly directory: string; readonly names: readonly string[] }

export interface LoadedGateCertificate {
  readonly tls: GateTls
  readonly notAfterMs: number
  /** Files to watch. */
  readonly files: readonly string[]
}

const TICKET_KEY_BYTES = 48

/**
 * Loads the certificate, and makes it first if that is wished. Throws a `ConfigError` if it cannot be used.
 */
export async function loadGateCertificate(certificate: GateCertificate): Promise<LoadedGateCertificate> {
  const nowMs = Date.now()
  if (certificate.kind === 'self-signed')
    await ensureSelfSigned(certificate.directory, certificate.names, nowMs)
  const { certFile, keyFile } = filesOf(certificate)
  const loaded = await loadCertificate({ certFile, keyFile, clientCaFile: undefined }, nowMs)
  const { certificates, key, notAfterMs } = loaded
  const ticketKeys = randomBytes(TICKET_KEY_BYTES)
  return {
    tls: { certificates, key, clients: undefined, ticketKeys },
    notAfterMs,
    files: [certFile, keyFile],
  }
}

function filesOf(certificate: GateCertificate): { readonly certFile: string; readonly keyFile: string } {
  if (certificate.kind === 'files') return certificate
  const { serverFile } = selfSignedFiles(certificate.directory)
  return { certFile: serverFile, keyFile: serverFile }
}
