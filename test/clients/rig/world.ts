import { type Certificates, makeCertificates } from './certificates.ts'
import { DockerRegistry } from './docker-registry.ts'
import { Front, type Logged, type Site } from './front.ts'
import type { Image } from './image.ts'
import { Room } from './room.ts'
import { type Mint, openMint } from './tokens.ts'

/** User and password of the private registry, quay.io. */
export const QUAY_LOGIN = { username: 'robot', password: 'correct horse' } as const

/**
 * The user agent that the mirror under test is configured to send: it tells its requests from the clients'.
 */
export const MIRROR_AGENT = 'mirror-under-test/1'

/** Name by which clients reach a mirror with TLS; the world's certificate has it. */
export const MIRROR_NAME = 'mirror.example.com'

/** The same at an address that is not in 127.0.0.0/8, which only a network of a test's own has. */
export const DOCKER_MIRROR_NAME = 'mirror.example.net'

/**
 * The internet of one test file: Docker Hub (Bearer tokens from another host, blobs redirected to a CDN),
 * quay.io (Bearer tokens only for a login) and ghcr.io (no authentication), each a real docker-registry
 * behind TLS on port 443.
 */
export class World implements AsyncDisposable {
  readonly room: Room
  readonly certificates: Certificates
  readonly front: Front
  /** Address of each name in the world. */
  readonly addresses: ReadonlyMap<string, string>
  readonly #backends: ReadonlyMap<string, { registry: DockerRegistry; service: string | undefined }>
  readonly #mint: Mint
  readonly #stack: AsyncDisposableStack

  private constructor(parts: {
    room: Room
    certificates: Certificates
    front: Front
    addresses: ReadonlyMap<string, string>
    backends: ReadonlyMap<string, { registry: DockerRegistry; service: string | undefined }>
    mint: Mint
    stack: AsyncDisposableStack
  }) {
    this.room = parts.room
    this.certificates = parts.certificates
    this.front = parts.front
    this.addresses = parts.addresses
    this.#backends = parts.backends
    this.#mint = parts.mint
    this.#stack = parts.stack
  }

  static async open(): Promise<World> {
    await using stack = new AsyncDisposableStack()
    const net = chooseNet()
    const registries = addressesOfRegistries(net)
    const addresses = new Map([...registries, [MIRROR_NAME, `${net}.6`], [DOCKER_MIRROR_NAME, '192.0.2.6']])
    const room = stack.use(await Room.open(addresses))
    const certificates = await makeCertificates(room.directory, [...addresses.keys()])
    const mint = await openMint(certificates)
    const rootCertificates = certificates.certificateFile
    const start = async (name: string, realm?: string): Promise<DockerRegistry> => {
      const auth = realm ? { realm, service: name, rootCertificates } : undefined
      return stack.use(await DockerRegistry.start(room, name, auth))
    }
    const hub = await start('registry.docker.io', 'https://auth.docker.io/token')
    const quay = await start('quay.io', 'https://quay.io/v2/auth')
    const ghcr = await start('ghcr.io')
    const sites: readonly Site[] = [
      {
        hosts: ['registry-1.docker.io', 'docker.io', 'index.docker.io'],
        backendPort: hub.port,
        service: 'registry.docker.io',
        tokenHost: 'auth.docker.io',
        tokenPath: '/token',
        blobHost: 'production.cloudflare.docker.com',
      },
      {
        hosts: ['quay.io'],
        backendPort: quay.port,
        service: 'quay.io',
        tokenPath: '/v2/auth',
        login: QUAY_LOGIN,
      },
      { hosts: ['ghcr.io'], backendPort: ghcr.port },
    ]
    const front = stack.use(new Front({ sites, addresses: registries, certificates, mint }))
    await front.up()
    const backends = new Map([
      ['docker.io', { registry: hub, service: 'registry.docker.io' }],
      ['quay.io', { registry: quay, service: 'quay.io' }],
      ['ghcr.io', { registry: ghcr, service: undefined }],
    ])
    return new World({ room, certificates, front, addresses, backends, mint, stack: stack.move() })
  }

  /**
   * Puts an image into a registry, under the name that clients call it by, such as
   * `docker.io/library/tools:1`.
   */
  async push(name: string, image: Image): Promise<void> {
    const [, namespace = '', repository = '', tag = ''] = /^([^/]+)\/(.+):([^:]+)$/.exec(name) ?? []
    const backend = this.#backends.get(namespace)
    if (!backend) throw new Error(`no registry for ${name}`)
    const access = [{ type: 'repository', name: repository, actions: ['pull', 'push'] }]
    const bearer = backend.service && this.#mint(backend.service, access)
    await backend.registry.push(repository, tag, image, bearer)
  }

  /** Everything that reached an upstream since the log had `mark` lines. */
  logged(mark = 0): readonly Logged[] {
    return this.front.log.slice(mark)
  }

  /** How many answers with (a part of) a blob have left the upstream since `mark`, by digest. */
  blobFetches(mark = 0): ReadonlyMap<string, number> {
    const counts = new Map<string, number>()
    for (const { blob, method, status } of this.logged(mark)) {
      if (blob && method === 'GET' && (status === 200 || status === 206))
        counts.set(blob, (counts.get(blob) ?? 0) + 1)
    }
    return counts
  }

  /** Requests that a client sent to an upstream by itself, past the mirror. */
  bypasses(mark = 0): readonly Logged[] {
    return this.logged(mark).filter(({ userAgent }) => userAgent !== MIRROR_AGENT)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}

// Two runs at once on one machine must not meet: the addresses depend on the process.
function chooseNet(): string {
  return `127.${64 + (process.pid % 128)}.${(process.pid >> 7) % 256}`
}

function addressesOfRegistries(net: string): Map<string, string> {
  return new Map([
    ['docker.io', `${net}.1`],
    ['registry-1.docker.io', `${net}.1`],
    ['index.docker.io', `${net}.1`],
    ['auth.docker.io', `${net}.2`],
    ['production.cloudflare.docker.com', `${net}.3`],
    ['quay.io', `${net}.4`],
    ['ghcr.io', `${net}.5`],
  ])
}
