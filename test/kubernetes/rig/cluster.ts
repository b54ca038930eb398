import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { get } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Child } from '../../clients/rig/child.ts'
import { freePort } from '../../clients/rig/ports.ts'
import { type Finished, need, run } from '../../packaging/rig/tools.ts'

/** The programs of a cluster; `build.sh` builds those that Debian lacks. */
export const CLUSTER_PROGRAMS = ['etcd', 'kube-apiserver', 'kubectl', 'helm', 'setpriv'] as const

/**
 * ClusterIPs are addresses of loopback, so that a listener of this machine at a Service's address and port is
 * that Service: to the API server, to helm's tests and to clients. Each cluster takes a range of its own.
 */
const SERVICES = (range: number): string => `127.${range}.0.0/24`

/**
 * A real API server over a real etcd, without nodes and controllers: it validates, stores and admits, and
 * runs no Pod.
 */
export class Cluster implements AsyncDisposable {
  /** Such as `https://127.0.0.1:1234`. */
  readonly url: string
  /** The token of an administrator. */
  readonly token: string
  /** The certificate of the API server, which is its own CA. */
  readonly caFile: string
  /** A kubeconfig of an administrator. */
  readonly kubeconfig: string
  /** A directory that goes with the cluster. */
  readonly room: string
  readonly #owned: AsyncDisposableStack

  private constructor(
    parts: Pick<Cluster, 'url' | 'token' | 'caFile' | 'kubeconfig' | 'room'>,
    owned: AsyncDisposableStack,
  ) {
    this.url = parts.url
    this.token = parts.token
    this.caFile = parts.caFile
    this.kubeconfig = parts.kubeconfig
    this.room = parts.room
    this.#owned = owned
  }

  static async start(): Promise<Cluster> {
    await using undo = new AsyncDisposableStack()
    const room = await mkdtemp(join(tmpdir(), 'entrepot-kubernetes-'))
    undo.defer(async () => await rm(room, { recursive: true, force: true, maxRetries: 5 }))
    const etcd = await startEtcd(room, undo)
    const token = randomBytes(24).toString('hex')
    const url = await startApiServer({ room, etcd, token }, undo)
    const caFile = join(room, 'certificates/apiserver.crt')
    const kubeconfig = join(room, 'kubeconfig.yaml')
    const authority = (await readFile(caFile)).toString('base64')
    await writeFile(kubeconfig, kubeconfigOf({ url, authority, token }))
    return new Cluster({ url, token, caFile, kubeconfig, room }, undo.move())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync()
  }

  /** Runs kubectl, whatever comes of it. */
  async tryKubectl(...words: readonly string[]): Promise<Finished> {
    return await run([need('kubectl'), ...words], { env: this.#environment() })
  }

  /** Runs kubectl, which must succeed, and returns what it printed. */
  async kubectl(...words: readonly string[]): Promise<string> {
    return succeeded(words, await this.tryKubectl(...words))
  }

  /** Runs helm, whatever comes of it. */
  async tryHelm(...words: readonly string[]): Promise<Finished> {
    return await run([need('helm'), ...words], { env: this.#environment() })
  }

  /** Runs helm, which must succeed without a warning of the API server, and returns what it printed. */
  async helm(...words: readonly string[]): Promise<string> {
    const finished = await this.tryHelm(...words)
    const warnings = finished.stderr.split('\n').filter(line => /^(?:W\d|warning:)/i.test(line))
    if (warnings.length > 0) throw new Error(`helm ${words.join(' ')} warned:\n${warnings.join('\n')}`)
    return succeeded(words, finished)
  }

  /** Creates what a file of manifests says; the API server refuses unknown fields. */
  async create(manifest: object, flags: readonly string[] = []): Promise<Finished> {
    const file = join(this.room, `manifest-${randomBytes(6).toString('hex')}.json`)
    await writeFile(file, JSON.stringify(manifest))
    return await this.tryKubectl('create', '--validate=strict', ...flags, '--filename', file)
  }

  /** An object, as the API server has it. */
  async get<T>(kind: string, name: string, namespace: string): Promise<T> {
    return JSON.parse(
      await this.kubectl('get', kind, name, '--namespace', namespace, '--output', 'json'),
    ) as T
  }

  /**
   * Makes a namespace in which Pods can be made. The API server warns there of each Pod template that the
   * restricted Pod Security Standard does not allow, unless the namespace is to be `privileged`.
   */
  async namespace(name: string, standard: 'restricted' | 'privileged' = 'restricted'): Promise<void> {
    await this.kubectl('create', 'namespace', name)
    await this.kubectl('label', 'namespace', name, `pod-security.kubernetes.io/warn=${standard}`)
    // A controller makes it, where there are controllers.
    await this.kubectl('create', 'serviceaccount', 'default', '--namespace', name)
  }

  #environment(): Readonly<Record<string, string>> {
    const { kubeconfig, room } = this
    return {
      KUBECONFIG: kubeconfig,
      HELM_CACHE_HOME: join(room, 'helm/cache'),
      HELM_CONFIG_HOME: join(room, 'helm/config'),
      HELM_DATA_HOME: join(room, 'helm/data'),
    }
  }
}

function succeeded(words: readonly string[], { code, stdout, stderr }: Finished): string {
  if (code !== 0) throw new Error(`${words.join(' ')}\nended with ${code}:\n${stdout}${stderr}`)
  return stdout
}

async function startEtcd(room: string, undo: AsyncDisposableStack): Promise<string> {
  const [client, peer] = [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`]
  const flags = [
    ['--data-dir', join(room, 'etcd')],
    ['--listen-client-urls', client],
    ['--advertise-client-urls', client],
    ['--listen-peer-urls', peer],
    ['--initial-advertise-peer-urls', peer],
    ['--initial-cluster', `default=${peer}`],
    ['--unsafe-no-fsync'],
  ].flat()
  const etcd = undo.use(new Child('etcd', [need('etcd'), ...flags]))
  await etcd.ready(async () => (await fetch(`${client}/health`)).ok)
  return client
}

interface ApiServerParts {
  readonly room: string
  readonly etcd: string
  readonly token: string
}

async function startApiServer(parts: ApiServerParts, undo: AsyncDisposableStack): Promise<string> {
  const { room, etcd, token } = parts
  const port = await freePort()
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await writeFile(join(room, 'accounts.pem'), privateKey.export({ type: 'sec1', format: 'pem' }))
  await writeFile(join(room, 'tokens.csv'), `${token},admin,admin,system:masters\n`)
  await mkdir(join(room, 'certificates'))
  const flags = [
    ['--etcd-servers', etcd],
    ['--secure-port', String(port)],
    ['--bind-address', '127.0.0.1'],
    // No endpoints of the API server itself: this machine may have no address but loopback.
    ['--advertise-address', '192.0.2.1'],
    ['--endpoint-reconciler-type', 'none'],
    ['--cert-dir', join(room, 'certificates')],
    ['--service-cluster-ip-range', SERVICES(100 + (port % 100))],
    ['--service-account-issuer', 'https://kubernetes.default.svc'],
    ['--service-account-key-file', join(room, 'accounts.pem')],
    ['--service-account-signing-key-file', join(room, 'accounts.pem')],
    ['--token-auth-file', join(room, 'tokens.csv')],
    ['--authorization-mode', 'Node,RBAC'],
    ['--allow-privileged'],
    // On by default since Kubernetes 1.35.
    ['--feature-gates', 'ImageVolume=true'],
  ].flat()
  const server = undo.use(new Child('kube-apiserver', [need('kube-apiserver'), ...flags]))
  const url = `https://127.0.0.1:${port}`
  const caFile = join(room, 'certificates/apiserver.crt')
  await server.ready(async () => await isReady(url, { token, ca: await readFile(caFile) }), 240_000)
  return url
}

async function isReady(
  url: string,
  { token, ca }: { readonly token: string; readonly ca: Buffer },
): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const headers = { Authorization: `Bearer ${token}` }
  get(`${url}/readyz`, { ca, headers, agent: false, signal: AbortSignal.timeout(10_000) }, response => {
    response.resume()
    resolve(response.statusCode === 200)
  }).on('error', reject)
  return await promise
}

function kubeconfigOf(of: {
  readonly url: string
  readonly authority: string
  readonly token: string
}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    clusters: [{ name: 'test', cluster: { server: of.url, 'certificate-authority-data': of.authority } }],
    users: [{ name: 'admin', user: { token: of.token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin', namespace: 'default' } }],
  })
}
