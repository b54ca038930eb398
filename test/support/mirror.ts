import { mkdtemp, rm } from 'node:fs/promises'
import { Agent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Config, NO_SECTIONS, UPSTREAM_DEFAULTS, type UpstreamConfig } from '../../src/config/config.ts'
import { type Daemon, type DaemonOverrides, startDaemon } from '../../src/daemon/start.ts'
import { openLog } from '../../src/observe/log.ts'
import { DOCKER_HUB, parseConfiguredNamespace } from '../../src/oci/namespace.ts'

export interface MirrorOptions {
  /** The upstream of `docker.io`, as `host:port` on loopback over plain http. */
  readonly upstream: string
  /** Overrides of that upstream's entry. */
  readonly entry?: Partial<UpstreamConfig>
  /** Further entries. */
  readonly others?: readonly UpstreamConfig[]
  readonly config?: Partial<Config>
  readonly overrides?: DaemonOverrides
  /** A directory that outlives this mirror; by default a new one, removed with it. */
  readonly root?: string
}

/** A listening mirror and its log. */
export interface TestMirror extends AsyncDisposable {
  readonly daemon: Daemon
  readonly root: string
  /** Parsed lines of its log. */
  readonly log: readonly Record<string, unknown>[]
  get(path: string, headers?: Record<string, string>): Promise<Reply>
  head(path: string, headers?: Record<string, string>): Promise<Reply>
  /** Sends a request and resolves at the headers; the body is the caller's. */
  open(path: string, headers?: Record<string, string>): Promise<IncomingMessage>
  admin(method: string, path: string): Promise<Reply>
}

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** True if the body ended as its framing promised. */
  readonly isComplete: boolean
}

/** Makes the entry of an upstream on loopback that speaks plain http. */
export function upstreamEntry(
  namespace: string,
  host: string,
  overrides: Partial<UpstreamConfig> = {},
): UpstreamConfig {
  return {
    ...UPSTREAM_DEFAULTS,
    namespace: parseConfiguredNamespace(namespace) ?? DOCKER_HUB,
    host,
    tls: false,
    caFile: undefined,
    clientCertFile: undefined,
    clientKeyFile: undefined,
    userAgent: undefined,
    credentials: undefined,
    blobInvalidationMs: undefined,
    allowAddresses: [],
    realms: [],
    ...overrides,
  }
}

/** Starts the whole daemon over a filesystem store, as `serve` would. */
export async function startMirror(options: MirrorOptions): Promise<TestMirror> {
  const root = options.root ?? (await mkdtemp(join(tmpdir(), 'entrepot-flow-')))
  const log: Record<string, unknown>[] = []
  const config: Config = {
    listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    adminListen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    defaultNamespace: DOCKER_HUB,
    namespaces: 'public',
    checkCacheDigest: false,
    upstreamConfigFile: undefined,
    upstreams: [upstreamEntry('docker.io', options.upstream, options.entry), ...(options.others ?? [])],
    sections: NO_SECTIONS,
    store: { kind: 'filesystem', root },
    drainMs: 10_000,
    scrub: { intervalMs: undefined, bytesPerSecond: 16 * 1024 ** 2 },
    logLevel: 'debug',
    ...options.config,
  }
  const sink = {
    write: (lines: string): void => {
      for (const line of lines.trimEnd().split('\n')) log.push(JSON.parse(line) as Record<string, unknown>)
    },
  }
  const daemon = await startDaemon(config, {
    log: openLog('debug', sink),
    output: sink,
    ...options.overrides,
  })
  return testMirror(daemon, { root, log, isOwnRoot: options.root === undefined })
}

function testMirror(
  daemon: Daemon,
  {
    root,
    log,
    isOwnRoot,
  }: { readonly root: string; readonly log: Record<string, unknown>[]; readonly isOwnRoot: boolean },
): TestMirror {
  const agent = new Agent({ keepAlive: true })
  const { client, admin = '' } = daemon.addresses
  let isStopped = false
  return {
    daemon: {
      ...daemon,
      addresses: daemon.addresses,
      reload: async () => await daemon.reload(),
      stopNow: () => daemon.stopNow(),
      stop: async () => {
        isStopped = true
        await daemon.stop()
      },
    },
    root,
    log,
    get: async (path, headers = {}) =>
      await readReply(await openRequest({ agent, address: client, path, headers })),
    head: async (path, headers = {}) =>
      await readReply(await openRequest({ agent, address: client, path, headers, method: 'HEAD' })),
    open: async (path, headers = {}) => await openRequest({ agent, address: client, path, headers }),
    admin: async (method, path) =>
      await readReply(await openRequest({ agent, address: admin, path, headers: {}, method })),
    [Symbol.asyncDispose]: async () => {
      agent.destroy()
      if (!isStopped) {
        daemon.stopNow()
        await daemon.stop()
      }
      if (isOwnRoot) await rm(root, { recursive: true, force: true })
    },
  }
}

interface RequestToSend {
  readonly agent: Agent
  readonly address: string
  readonly path: string
  readonly headers: Record<string, string>
  readonly method?: string
}

/** Sends a request without a body and resolves when the response's headers have arrived. */
async function openRequest({
  agent,
  address,
  path,
  headers,
  method = 'GET',
}: RequestToSend): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const [host, port] = address.split(':')
  const request = httpRequest({ agent, host, port, path, headers, method }, resolve)
  request.on('error', reject)
  request.end()
  return await promise
}

/** Reads a response to its end, complete or not. */
export async function readReply(response: IncomingMessage): Promise<Reply> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer)
  } catch {
    // `isComplete` is false for a response that was broken off.
  }
  const { statusCode: status = 0, headers, complete: isComplete } = response
  return { status, headers, body: Buffer.concat(chunks), isComplete }
}
