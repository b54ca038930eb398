import { randomBytes } from 'node:crypto'
import type { Config, TlsConfig } from '../config/config.ts'
import { FileWatch } from '../config/file/watch.ts'
import { type CertificateFiles, loadCertificate } from '../config/tls/certificate-files.ts'
import { ensureSelfSigned, selfSignedFiles } from '../config/tls/self-signed.ts'
import type { ListenerTls } from '../http/tls/listener-tls.ts'
import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { DaemonParts } from './parts.ts'

const RENEW_EVERY_MS = 24 * 3_600_000
const TICKET_KEY_BYTES = 48

/**
 * Loads the certificate of the TLS listeners, if there are any, and makes a self-signed one first if that is
 * configured. Throws a `ConfigError` if it cannot be used. New ticket keys end the sessions of the
 * certificate before it.
 */
export async function loadListenerTls(
  { tls }: Pick<Config, 'tls'>,
  { clock, events }: { readonly clock: Clock; readonly events: Events },
): Promise<ListenerTls | undefined> {
  if (tls === undefined) return undefined
  const nowMs = clock.wallMs()
  if (tls.certificate.kind === 'self-signed')
    await ensureSelfSigned(tls.certificate.directory, tls.certificate.names, nowMs)
  const files = certificateFiles(tls)
  const { certificates, key, clientCa, names, notAfterMs } = await loadCertificate(files, nowMs)
  events.certificateLoaded({ file: files.certFile, names, notAfterMs })
  const clients =
    clientCa === undefined ? undefined : { ca: clientCa, isRequired: tls.clients?.isRequired === true }
  return { certificates, key, clients, ticketKeys: randomBytes(TICKET_KEY_BYTES) }
}

function certificateFiles({ certificate, clients }: TlsConfig): CertificateFiles {
  const clientCaFile = clients?.caFile
  if (certificate.kind === 'files') {
    const { certFile, keyFile } = certificate
    return { certFile, keyFile, clientCaFile }
  }
  const { serverFile } = selfSignedFiles(certificate.directory)
  return { certFile: serverFile, keyFile: serverFile, clientCaFile }
}

/**
 * Reads the certificate's files again, all or nothing. Connections that are open keep what they have. Logs
 * the result and never rejects.
 */
export async function reloadCertificate(parts: DaemonParts): Promise<void> {
  const { config, events, clientServer, threads } = parts
  await parts.reloads.take('certificate', async () => {
    try {
      const terms = await loadListenerTls(config, parts)
      if (terms === undefined) return
      clientServer.secure(terms)
      await threads?.secure(terms)
      parts.identities.trustCertificatesOf(terms.clients?.ca)
    } catch (error) {
      events.certificateFailed(error)
    }
  })
}

/** Reloads the certificate whenever one of its files changes, and renews a self-signed one in time. */
export async function watchCertificate(parts: DaemonParts): Promise<Disposable> {
  const { config, events } = parts
  const watching = new DisposableStack()
  if (config.tls === undefined) return watching
  const { certFile, keyFile, clientCaFile } = certificateFiles(config.tls)
  for (const path of new Set([certFile, keyFile, clientCaFile])) {
    if (path === undefined) continue
    const watch = watching.use(
      new FileWatch(path, {
        changed: () => void reloadCertificate(parts),
        failed: error =>
          events.warned(`${path} is not watched any more; SIGHUP still reloads it`, { err: error }),
      }),
    )
    await watch.start()
  }
  if (config.tls.certificate.kind === 'self-signed') {
    const timer = setInterval(() => void reloadCertificate(parts), RENEW_EVERY_MS)
    timer.unref()
    watching.defer(() => clearInterval(timer))
  }
  return watching
}
