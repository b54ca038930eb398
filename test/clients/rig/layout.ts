import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Image } from './image.ts'

/** Writes an image as an OCI layout, the folder from which most clients can push. */
export async function writeLayout(
  directory: string,
  tag: string,
  { root, manifests, blobs }: Image,
): Promise<void> {
  const folder = join(directory, 'blobs', 'sha256')
  await mkdir(folder, { recursive: true })
  for (const { digest, bytes } of [root, ...manifests, ...blobs]) {
    await writeFile(join(folder, digest.replace('sha256:', '')), bytes)
  }
  const entry = {
    mediaType: root.mediaType,
    digest: root.digest,
    size: root.bytes.length,
    annotations: { 'org.opencontainers.image.ref.name': tag },
  }
  await writeFile(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }))
}
