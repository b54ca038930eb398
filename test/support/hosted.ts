import { glob, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { Agent, request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Access } from '../../src/access/access.ts'
import { type Config, type FileSections, NO_SECTIONS } from '../../src/config/config.ts'
import type { DaemonOverrides } from '../../src/daemon/start.ts'
import type { Events } from '../../src/observe/events.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { OciError } from '../../src/oci/error.ts'
import { ANONYMOUS } from '../../src/oci/identity.ts'
import { parseNamePattern } from '../../src/oci/name-pattern.ts'
import { parseConfiguredNamespace } from '../../src/oci/namespace.ts'
import { openFilesystemStore } from '../../src/storage/filesystem/store.ts'
import { contentKey } from '../../src/storage/layout.ts'
import { type FaultyOperation, FaultyStore } from './faulty-store.ts'
import { type Reply, startMirror, type TestMirror } from './mirror.ts'
import { seeEvents } from './seen-events.ts'

export interface HostedOptions {
  /** Patterns of hosted names, each with its fallback. */
  readonly claims?: Readonly<Record<string, string | undefined>>
  readonly mayPush?: boolean
  /** The upstream of `docker.io`; by default one that refuses every connection. */
  readonly upstream?: string
  /** The store takes injected faults; see {@link HostedMirror.faults}. */
  readonly isFaulty?: boolean
  /** A disk that is full takes this many bytes of an upload before it says so. */
  readonly appendFailsAfter?: number
  readonly config?: Partial<Config>
  readonly overrides?: DaemonOverrides
}

export interface Sent {
  readonly body?: Uint8Array
  readonly headers?: Record<string, string>
}

/** A daemon with hosted repositories over a filesystem store. */
export interface HostedMirror extends AsyncDisposable {
  readonly log: readonly Record<string, unknown>[]
  /** Host and port for clients. */
  readonly address: string
  /** Host and port for administrators. */
  readonly adminAddress: string
  readonly faults: Set<FaultyOperation>
  send(method: string, path: string, sent?: Sent): Promise<Reply>
  /** Asks the admin listener. */
  admin(method: string, path: string): Promise<Reply>
  /** Sends less than it announces, and closes the connection. */
  breakOff(
    method: string,
    path: string,
    sent: { readonly body: Uint8Array; readonly announced: number },
  ): Promise<void>
  /** Stops the daemon and starts another one over the same directory, with its index or without. */
  restart(options?: { readonly isIndexLost: true }): Promise<void>
  /** Makes the records of jobs that are done once for all mirrors as old as the store can say. */
  ageRuns(): Promise<void>
  /** The same with the holds of what was pushed: no push seems to be under way. */
  ageHolds(): Promise<void>
  /** Overwrites stored content. */
  damage(digest: Digest): Promise<void>
}

/** Access that lets everybody pull, and push and delete if the test says so. */
export function accessOf(mayPush: boolean): Access {
  return {
    identify: () => ANONYMOUS,
    authorize: ({ right }) => {
      if (right !== 'pull' && !mayPush) throw new OciError('DENIED', `anonymous may not ${right} here`)
      return undefined
    },
    authorizeDigest: () => undefined,
    rowFor: () => 'default',
    mayEnter: () => true,
    may: (_identity, _place, right) => right === 'pull' || mayPush,
  }
}

/** Sections of an upstream file that claim names. */
export function sectionsOf(claims: Readonly<Record<string, string | undefined>>): FileSections {
  const hosted = Object.entries(claims).map(([text, fallback]) => {
    const names = parseNamePattern(text)
    if (names === undefined) throw new Error(`${text} is no pattern`)
    return { names, fallback: fallback === undefined ? undefined : parseConfiguredNamespace(fallback) }
  })
  return { ...NO_SECTIONS, hosted }
}

const NOWHERE = '127.0.0.1:9'

export async function startHosted(options: HostedOptions): Promise<HostedMirror> {
  const { claims = { 'registry.example.com/**': undefined }, mayPush = true, upstream = NOWHERE } = options
  const root = await mkdtemp(join(tmpdir(), 'entrepot-hosted-'))
  const faults = new Set<FaultyOperation>()
  const { events } = seeEvents()
  const start = async (): Promise<TestMirror> =>
    await startMirror({
      upstream,
      root,
      config: { sections: sectionsOf(claims), ...options.config },
      overrides: {
        access: accessOf(mayPush),
        ...options.overrides,
        ...(options.isFaulty === true
          ? { store: await faulty(root, { faults, events, appendFailsAfter: options.appendFailsAfter ?? 0 }) }
          : {}),
      },
    })
  let mirror = await start()
  const agent = new Agent({ keepAlive: true })
  return {
    get log() {
      return mirror.log
    },
    get address() {
      return mirror.daemon.addresses.client
    },
    get adminAddress() {
      return mirror.daemon.addresses.admin ?? ''
    },
    faults,
    admin: async (method, path) => await mirror.admin(method, path),
    send: async (method, path, sent) => await send(mirror, agent, { method, path, ...sent }),
    breakOff: async (method, path, sent) => await breakOff(mirror, { method, path, ...sent }),
    restart: async options => {
      await mirror[Symbol.asyncDispose]()
      if (options?.isIndexLost === true) await rm(join(root, 'index.sqlite'))
      mirror = await start()
    },
    ageRuns: async () => {
      for await (const path of glob(join(root, 'runs/*/*'))) await utimes(path, 0, 0)
    },
    ageHolds: async () => {
      for await (const path of glob(join(root, 'hosted/holds/*/*/*/*'))) await utimes(path, 0, 0)
    },
    damage: async digest => {
      await writeFile(join(root, contentKey(digest)), 'damaged')
    },
    [Symbol.asyncDispose]: async () => {
      agent.destroy()
      await mirror[Symbol.asyncDispose]()
      await rm(root, { recursive: true, force: true })
    },
  }
}

async function faulty(
  root: string,
  parts: {
    readonly faults: Set<FaultyOperation>
    readonly events: Events
    readonly appendFailsAfter: number
  },
): Promise<FaultyStore> {
  const store = new FaultyStore(await openFilesystemStore({ root, events: parts.events }))
  store.appendFailsAfter = parts.appendFailsAfter
  Object.defineProperty(store, 'faults', { value: parts.faults })
  return store
}

interface Sending extends Sent {
  readonly method: string
  readonly path: string
}

async function send(
  mirror: TestMirror,
  agent: Agent,
  { method, path, body, headers }: Sending,
): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const [host = '', port = ''] = mirror.daemon.addresses.client.split(':')
  const length = body === undefined ? {} : { 'content-length': String(body.byteLength) }
  const sending = httpRequest(
    { host, port, method, path, agent, headers: { ...length, ...headers } },
    answer => {
      const pieces: Buffer[] = []
      answer.on('data', (piece: Buffer) => pieces.push(piece))
      answer.once('error', reject)
      answer.once('end', () =>
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          body: Buffer.concat(pieces),
          isComplete: answer.complete,
        }),
      )
    },
  )
  sending.once('error', reject)
  sending.end(body)
  return await promise
}

async function breakOff(
  mirror: TestMirror,
  { method, path, body = new Uint8Array(), announced }: Sending & { readonly announced: number },
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const [host = '', port = ''] = mirror.daemon.addresses.client.split(':')
  const sending = httpRequest({ host, port, method, path, headers: { 'content-length': String(announced) } })
  sending.once('error', () => resolve())
  sending.once('close', () => resolve())
  sending.write(body, () => setImmediate(() => sending.destroy()))
  await promise
}
