import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

/** Bytes with the digest and the media type under which a registry keeps them. */
export interface Piece {
  readonly digest: string
  readonly bytes: Buffer
  readonly mediaType: string
}

/** An image as it is pushed: `root` is what the tag names, an index or the only manifest. */
export interface Image {
  readonly root: Piece
  readonly manifests: readonly Piece[]
  readonly blobs: readonly Piece[]
  /** Configuration and layers of one platform: what a client of that platform has to fetch. */
  readonly platforms: ReadonlyMap<string, readonly Piece[]>
}

/** What an image is made of. Every image's bytes are its own: no two share a layer. */
export interface ImagePlan {
  /** What the container prints when it is run. */
  readonly greeting: string
  readonly types: 'oci' | 'docker'
  /** More than one architecture makes an index (or a manifest list). */
  readonly architectures: readonly string[]
  /** Sizes of the random layers that follow the runnable one. */
  readonly layerBytes: readonly number[]
}

const TYPES = {
  oci: {
    index: 'application/vnd.oci.image.index.v1+json',
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
  docker: {
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
} as const

/** Builds an image whose amd64 child prints its greeting by a static busybox. */
export function buildImage(plan: ImagePlan): Image {
  const children = plan.architectures.map(architecture => ({
    architecture,
    ...buildChild(plan, architecture),
  }))
  const platforms = new Map(children.map(child => [child.architecture, child.blobs]))
  const blobs = children.flatMap(child => child.blobs)
  const manifests = children.map(child => child.manifest)
  const [only, ...others] = manifests
  if (only && others.length === 0) return { root: only, manifests: [], blobs, platforms }
  const index = {
    schemaVersion: 2,
    mediaType: TYPES[plan.types].index,
    manifests: children.map(({ architecture, manifest }) => ({
      ...describePiece(manifest),
      platform: { architecture, os: 'linux' },
    })),
  }
  return { root: jsonPiece(index, TYPES[plan.types].index), manifests, blobs, platforms }
}

/** A piece of any bytes. */
export function piece(bytes: Buffer, mediaType: string): Piece {
  return { digest: digestOf(bytes), bytes, mediaType }
}

/** An image of one uncompressed random layer: for readers that only count bytes. */
export function buildLump(sizeBytes: number): Image {
  const layer = piece(randomBytes(sizeBytes), 'application/vnd.oci.image.layer.v1.tar')
  const config = jsonPiece({ architecture: 'amd64', os: 'linux', salt: layer.digest }, TYPES.oci.config)
  const manifest = {
    schemaVersion: 2,
    mediaType: TYPES.oci.manifest,
    config: describePiece(config),
    layers: [describePiece(layer)],
  }
  const blobs = [config, layer]
  return {
    root: jsonPiece(manifest, TYPES.oci.manifest),
    manifests: [],
    blobs,
    platforms: new Map([['amd64', blobs]]),
  }
}

function buildChild(plan: ImagePlan, architecture: string): { manifest: Piece; blobs: Piece[] } {
  const types = TYPES[plan.types]
  const tars = [
    runnableTar(`${plan.greeting}\n`, architecture),
    ...plan.layerBytes.map((size, at) =>
      tar([{ path: `data-${at}`, mode: 0o644, bytes: randomBytes(size) }]),
    ),
  ]
  const layers = tars.map(bytes => piece(gzipSync(bytes, { level: 1 }), types.layer))
  const config = jsonPiece(
    {
      created: '2024-01-01T00:00:00Z',
      architecture,
      os: 'linux',
      config: {
        Cmd: ['/bin/busybox', 'cat', '/greeting'],
        Env: ['PATH=/bin'],
        Labels: { greeting: plan.greeting },
      },
      rootfs: { type: 'layers', diff_ids: tars.map(digestOf) },
      history: tars.map(() => ({ created: '2024-01-01T00:00:00Z', created_by: 'test' })),
    },
    types.config,
  )
  const manifest = {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: describePiece(config),
    layers: layers.map(describePiece),
  }
  return { manifest: jsonPiece(manifest, types.manifest), blobs: [config, ...layers] }
}

function runnableTar(greeting: string, architecture: string): Buffer {
  const directories = ['bin/', 'dev/', 'etc/', 'proc/', 'sys/', 'tmp/'].map(path => ({ path, mode: 0o755 }))
  const busybox = architecture === 'amd64' ? readFileSync('/bin/busybox') : randomBytes(4096)
  return tar([
    ...directories,
    { path: 'bin/busybox', mode: 0o755, bytes: busybox },
    { path: 'salt', mode: 0o644, bytes: randomBytes(64) },
    { path: 'greeting', mode: 0o644, bytes: Buffer.from(greeting) },
  ])
}

interface Entry {
  readonly path: string
  readonly mode: number
  readonly bytes?: Buffer
}

// POSIX ustar: a 512-byte header, then the content padded to whole blocks; two empty blocks end the archive.
function tar(entries: readonly Entry[]): Buffer {
  const blocks = entries.flatMap(({ path, mode, bytes = Buffer.alloc(0) }) => {
    const header = Buffer.alloc(512)
    const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0')
    header.write(path, 0)
    header.write(`${octal(mode, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100)
    header.write(`${octal(bytes.length, 11)}\0${octal(0, 11)}\0${' '.repeat(8)}`, 124)
    header.write(path.endsWith('/') ? '5' : '0', 156)
    header.write('ustar\u000000', 257)
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${octal(sum, 6)}\0 `, 148)
    return [header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]
  })
  return Buffer.concat([...blocks, Buffer.alloc(1024)])
}

function jsonPiece(value: unknown, mediaType: string): Piece {
  return piece(Buffer.from(JSON.stringify(value)), mediaType)
}

function describePiece({ digest, bytes, mediaType }: Piece): object {
  return { mediaType, digest, size: bytes.length }
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}
