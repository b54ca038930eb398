import type { HostFiles, PlannedFile, Wish } from './client.ts'

/**
 * Plans the files of a mirror's TLS in a directory that the client searches by the mirror's address, as
 * Docker (`/etc/docker/certs.d`) and containers/image (`/etc/containers/certs.d`) do: the CA certificate. A
 * client certificate cannot be copied here, because its key must not leave its file: the notes say what to
 * link.
 */
export async function planCertsDirectory(
  { mirror, caText }: Wish,
  files: HostFiles,
  directory: string,
): Promise<readonly PlannedFile[]> {
  if (caText === undefined) return []
  const path = `${directory}/${mirror.authority}/ca.crt`
  const before = await files.read(path)
  return [{ path, before, after: caText }]
}

/** What remains to be done by hand in such a directory. */
export function certsNotes(
  { mirror, caFile, caText, certificate }: Wish,
  directory: string,
): readonly string[] {
  const place = `${directory}/${mirror.authority}`
  return [
    ...(caFile !== undefined && caText === undefined ? [`Copy the CA certificate to ${place}/ca.crt.`] : []),
    ...(certificate === undefined
      ? []
      : [
          `Link the client certificate: ln -s ${certificate.certFile} ${place}/client.cert; ln -s ${certificate.keyFile} ${place}/client.key.`,
        ]),
  ]
}
