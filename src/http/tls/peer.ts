import type { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { ClientCertificate, Peer } from '../../access/peer.ts'
import { OciError } from '../../oci/error.ts'

/** Tells the other side of connections. */
export class Peers {
  /** Kept by connection: reading a certificate takes longer than a remembered answer. */
  readonly #known = new WeakMap<Socket, Peer>()

  /** The other side of a connection that is open. */
  of(socket: Socket): Peer {
    const known = this.#known.get(socket)
    if (known !== undefined) return known
    const isEncrypted = socket instanceof TLSSocket
    const certificate = isEncrypted ? certificateOf(socket) : undefined
    const peer = { address: socket.remoteAddress, isEncrypted, certificate }
    this.#known.set(socket, peer)
    return peer
  }
}

/** Refuses a certificate that the client CA does not vouch for. A client without one may pass. */
export function requireTrusted({ certificate }: Peer): void {
  if (certificate?.problem === undefined) return
  throw new OciError('UNAUTHORIZED', `the client certificate is not accepted: ${certificate.problem}`)
}

function certificateOf(socket: TLSSocket): ClientCertificate | undefined {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return undefined
  return describeCertificate(certificate, socket.authorized ? undefined : problemOf(socket))
}

/** OpenSSL's reason, such as `CERT_HAS_EXPIRED`, in words. */
function problemOf({ authorizationError }: TLSSocket): string {
  return String(authorizationError).toLowerCase().replaceAll('_', ' ')
}

/** Reduces a certificate to the names that rules can match. */
export function describeCertificate(
  certificate: X509Certificate,
  problem: string | undefined,
): ClientCertificate {
  const { CN: commonName, O: organization = [] } = certificate.toLegacyObject().subject as Subject
  const names = altNames(certificate.subjectAltName ?? '')
  const ofType = (type: string): readonly string[] =>
    names.flatMap(name => (name.type === type ? [name.value] : []))
  return {
    commonName: typeof commonName === 'string' && isShort(commonName) ? commonName : undefined,
    organizations: [organization].flat().filter(isShort).slice(0, NAMES_MAX),
    dnsNames: ofType('DNS'),
    uris: ofType('URI'),
    emails: ofType('email'),
    fingerprint: certificate.fingerprint256,
    problem,
  }
}

type Subject = Readonly<Record<string, string | readonly string[] | undefined>>

/** Further and longer names of a certificate are ignored, so that they give no rights. */
const NAMES_MAX = 16
const NAME_LENGTH_MAX = 256

function isShort(name: string): boolean {
  return name !== '' && name.length <= NAME_LENGTH_MAX
}

/** One name in the text that Node makes of subject alternative names; odd values are JSON strings. */
const ALT_NAME = /(?:^|, )(DNS|URI|email|IP Address|[^:,]+):("(?:[^"\\]|\\.)*"|(?!")[^,]*)/gy

interface AltName {
  readonly type: string
  readonly value: string
}

function altNames(text: string): readonly AltName[] {
  return [...text.matchAll(ALT_NAME)]
    .map(([, type = '', value = '']) => ({ type, value: value.startsWith('"') ? unquoted(value) : value }))
    .filter(({ value }) => isShort(value))
    .slice(0, NAMES_MAX)
}

function unquoted(text: string): string {
  try {
    return String(JSON.parse(text))
  } catch {
    return ''
  }
}
