import { createHash, randomBytes } from 'node:crypto'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import type { S3Address } from '../../src/storage/s3/connection.ts'
import { makeBucket } from '../../test/s3/rig/bucket.ts'
import { startRadosgw } from '../../test/s3/rig/radosgw.ts'
import type { Bench, Case } from '../bench.ts'
import { cpuSecondsOf, forgetPeak, residentBytesOf } from '../cpu.ts'
import { startEntrepot, VARIANTS } from '../entrepot.ts'
import { watched } from '../loop.ts'
import { BUCKET_PROGRAMS } from '../programs.ts'
import { startRegistry } from '../registry.ts'
import type { Results } from '../results.ts'
import type { Started } from '../room.ts'

const OWN = VARIANTS[0].name
/** The registry that takes the same pushes. */
export const PUSHED_TO = 'docker-registry'
export const REPOSITORY = 'hosted/app'
const MANIFESTS = 2000
const MANIFESTS_AT_ONCE = 16
const PIECE_BYTES = 1024 * 1024

type Place = 'disk' | 'bucket'
type Bucket = S3Address

const COMPARED = [
  { title: 'of docker-registry', metric: 'requestsPerSecond', with: PUSHED_TO },
  { title: 'of docker-registry', metric: 'bytesPerSecond', with: PUSHED_TO },
] as const

/** Pushes to hosted repositories, beside the registry that most people run. */
export const PUSH_CASES: readonly Case[] = (['disk', 'bucket'] as const).flatMap((place): readonly Case[] => {
  const where = place === 'disk' ? 'a file system' : 'a bucket (radosgw)'
  const needed: Pick<Case, 'programs' | 'isLong'> =
    place === 'disk' ? {} : { programs: BUCKET_PROGRAMS, isLong: true }
  return [
    {
      name: `push-manifests-${place}`,
      title: `Push of ${MANIFESTS.toLocaleString('en')} small manifests by tag, ${MANIFESTS_AT_ONCE} at once, to ${where}`,
      columns: ['requestsPerSecond', 'cpuPerThousand', 'p50Ms', 'peakBytes', 'loopMs'],
      comparisons: [COMPARED[0]],
      ...needed,
      run: async (bench, results) =>
        await onBoth(bench, place, pushManifests(results, `push-manifests-${place}`)),
    },
    {
      name: `push-blob-${place}`,
      title: `Push of one large blob (POST, PATCH, PUT, as Docker sends it) to ${where}`,
      columns: ['bytesPerSecond', 'cpuPerGigabyte', 'peakBytes', 'loopMs'],
      comparisons: [COMPARED[1]],
      ...needed,
      run: async (bench, results) => await onBoth(bench, place, pushBlob(results, `push-blob-${place}`)),
    },
  ]
})

interface Pushed extends Started {
  readonly name: string
}

type Work = (bench: Bench, server: Pushed, round: number) => Promise<void>

async function onBoth(bench: Bench, place: Place, work: Work): Promise<void> {
  await using stack = new AsyncDisposableStack()
  const bucket = place === 'disk' ? undefined : await makeBucket(stack.use(await startRadosgw()))
  const servers = await startBoth(bench, bucket)
  for (let round = 1; round <= bench.options.rounds; round += 1) {
    for (const server of servers) {
      bench.progress(`push to ${place}, round ${round}: ${server.name}`)
      forgetPeak(server.child.pid)
      await work(bench, server, round)
      await bench.settle()
    }
  }
  for (const { child } of servers) await child.stop()
}

async function startBoth({ room, origin }: Bench, bucket: Bucket | undefined): Promise<readonly Pushed[]> {
  const group = `push-${randomBytes(3).toString('hex')}`
  const { accessKeyId = '', secretAccessKey = '' } = bucket?.credentials ?? {}
  const own = await startEntrepot(room, group, {
    upstream: origin.address,
    flags: [...VARIANTS[0].flags],
    hosted: `docker.io/${REPOSITORY.split('/')[0]}/**`,
    ...(bucket === undefined
      ? {}
      : {
          store: [
            's3',
            '--bucket',
            bucket.bucket,
            '--host',
            bucket.endpoint ?? '',
            '--prefix',
            'own/',
            '--spool-dir',
            room.path(group, 'spool'),
          ],
          env: { S3_ACCESS_KEY: accessKeyId, S3_SECRET_KEY: secretAccessKey },
        }),
  })
  const other = await startRegistry(room, `${group}-registry`, { bucket })
  return [
    { name: OWN, ...own },
    { name: PUSHED_TO, ...other },
  ]
}

function pushManifests(results: Results, name: string): Work {
  return async (_bench, server, round) => {
    const client = new PushClient(server.address)
    const config = Buffer.from('{}')
    await client.pushSmall(config)
    const manifests = Array.from({ length: MANIFESTS }, (_, index) => manifestOf(config, `${round}-${index}`))
    const cpuBefore = cpuSecondsOf(server.child.pid)
    const took: number[] = []
    let next = 0
    const worker = async (): Promise<void> => {
      for (let index = next++; index < manifests.length; index = next++) {
        const beganAtMs = performance.now()
        await client.put(`manifests/tag-${round}-${index}`, manifests[index] ?? Buffer.alloc(0))
        took.push(performance.now() - beganAtMs)
      }
    }
    const { seconds, ...seen } = await watched(
      server,
      async () =>
        await timed(async () => await Promise.all(Array.from({ length: MANIFESTS_AT_ONCE }, worker))),
    )
    took.sort((one, other) => one - other)
    results.add(name, server.name, {
      requestsPerSecond: MANIFESTS / seconds,
      cpuPerThousand: ((cpuSecondsOf(server.child.pid) - cpuBefore) * 1000) / MANIFESTS,
      p50Ms: took[Math.floor(took.length / 2)] ?? 0,
      peakBytes: residentBytesOf(server.child.pid).peakBytes,
      ...seen,
    })
    client[Symbol.dispose]()
  }
}

async function timed(work: () => Promise<unknown>): Promise<{ readonly seconds: number }> {
  const startedAtMs = performance.now()
  await work()
  return { seconds: (performance.now() - startedAtMs) / 1000 }
}

function pushBlob(results: Results, name: string): Work {
  return async ({ options }, server) => {
    const client = new PushClient(server.address)
    const pieces = piecesOf(options.largeBytes)
    const cpuBefore = cpuSecondsOf(server.child.pid)
    const { seconds, ...seen } = await watched(
      server,
      async () => await timed(async () => await client.pushLarge(pieces, options.largeBytes)),
    )
    results.add(name, server.name, {
      bytesPerSecond: options.largeBytes / seconds,
      cpuPerGigabyte: ((cpuSecondsOf(server.child.pid) - cpuBefore) * 1e9) / options.largeBytes,
      peakBytes: residentBytesOf(server.child.pid).peakBytes,
      ...seen,
    })
    client[Symbol.dispose]()
  }
}

interface Pieces {
  readonly digest: string
  readonly each: () => Iterable<Buffer>
}

/** A blob of one random piece again and again, with another beginning. Hashed before the clock runs. */
function piecesOf(sizeBytes: number): Pieces {
  const [first, rest] = [randomBytes(PIECE_BYTES), randomBytes(PIECE_BYTES)]
  function* each(): Generator<Buffer> {
    for (let sent = 0; sent < sizeBytes; sent += PIECE_BYTES) yield sent === 0 ? first : rest
  }
  const hash = createHash('sha256')
  for (const piece of each()) hash.update(piece)
  return { digest: `sha256:${hash.digest('hex')}`, each }
}

/** A manifest without layers. */
export function manifestOf(config: Buffer, name: string): Buffer {
  const digest = `sha256:${createHash('sha256').update(config).digest('hex')}`
  const mediaType = 'application/vnd.oci.empty.v1+json'
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType, digest, size: config.length },
      layers: [],
      annotations: { 'org.example.name': name },
    }),
  )
}

interface PushAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
}

/** A client that pushes as Docker does. */
export class PushClient implements Disposable {
  readonly #base: string
  readonly #agent = new Agent({ keepAlive: true, maxSockets: MANIFESTS_AT_ONCE })

  constructor(address: string) {
    this.#base = `http://${address}`
  }

  async put(resource: string, manifest: Buffer): Promise<void> {
    const headers = { 'content-type': 'application/vnd.oci.image.manifest.v1+json' }
    this.#require(
      201,
      await this.#send('PUT', `/v2/${REPOSITORY}/${resource}`, { pieces: [manifest], headers }),
    )
  }

  async pushSmall(bytes: Buffer): Promise<void> {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    const location = await this.#begin()
    this.#require(201, await this.#send('PUT', withDigest(location, digest), { pieces: [bytes] }))
  }

  async pushLarge({ digest, each }: Pieces, sizeBytes: number): Promise<void> {
    const headers = { 'content-length': String(sizeBytes) }
    const patched = await this.#send('PATCH', await this.#begin(), { pieces: each(), headers })
    this.#require(202, patched)
    this.#require(
      201,
      await this.#send('PUT', withDigest(patched.headers.location ?? '', digest), { pieces: [] }),
    )
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }

  async #begin(): Promise<string> {
    const begun = await this.#send('POST', `/v2/${REPOSITORY}/blobs/uploads/`, { pieces: [] })
    this.#require(202, begun)
    return begun.headers.location ?? ''
  }

  #require(status: number, answer: PushAnswer): void {
    if (answer.status !== status) throw new Error(`a push was answered ${answer.status} and not ${status}`)
  }

  async #send(
    method: string,
    path: string,
    {
      pieces,
      headers = {},
    }: { readonly pieces: Iterable<Buffer>; readonly headers?: Record<string, string> },
  ): Promise<PushAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<PushAnswer>()
    const url = new URL(path, this.#base)
    const list = Array.isArray(pieces) ? pieces : undefined
    const length = list?.reduce((sum: number, piece: Buffer) => sum + piece.length, 0)
    const framing: Record<string, string> = length === undefined ? {} : { 'content-length': String(length) }
    const sent = request(url, { method, agent: this.#agent, headers: { ...framing, ...headers } }, answer => {
      answer.resume()
      answer.once('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers }))
    })
    sent.once('error', reject)
    for (const piece of pieces) {
      if (sent.write(piece)) continue
      const { promise: drained, resolve: drain } = Promise.withResolvers<void>()
      sent.once('drain', drain)
      await Promise.race([drained, promise])
    }
    sent.end()
    return await promise
  }
}

function withDigest(location: string, digest: string): string {
  return `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`
}
