import { createHash } from 'node:crypto'
import type { ReplicasReport } from '../admin/replicas-report.ts'
import type { Config } from '../config/config.ts'
import type { PeersConfig } from '../config/peers/peers-config.ts'
import type { Claimed } from '../hosted/claimed.ts'
import { HttpServer, SERVER_LIMITS, type ServerLimits } from '../http/server.ts'
import type { Clock } from '../lib/clock.ts'
import { version } from '../lib/package.ts'
import type { Mirror } from '../mirror/mirror.ts'
import type { Directory } from '../mirror/sources.ts'
import type { Events } from '../observe/events.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Namespace } from '../oci/namespace.ts'
import { PeerAsking } from '../peers/asking.ts'
import { Following } from '../peers/following.ts'
import { PeerListener } from '../peers/listener.ts'
import { Members } from '../peers/members.ts'
import { OwnedTags } from '../peers/owned-tags.ts'
import { PeerKey } from '../peers/peer-key.ts'
import { PeerRegistries } from '../peers/peer-registry.ts'
import type { ToldChange } from '../peers/protocol.ts'
import { Responding } from '../peers/respond.ts'
import { RollCall } from '../peers/roll-call.ts'
import type { Telling } from '../peers/telling.ts'
import { type PeerAddress, PeerWire } from '../peers/wire.ts'
import { isAbsentName, type Resolve, systemResolve } from '../upstream/dial/resolve.ts'
import type { Registries } from '../upstream/registry.ts'

export interface PeeringParts {
  readonly config: Config
  readonly clock: Clock
  readonly events: Events
  readonly metrics: Metrics
  /** Name of this process. */
  readonly instance: string
  readonly telling: Telling
  readonly resolve?: Resolve | undefined
  readonly leaving: AbortController
  readonly draining: AbortController
}

/** What other replicas are answered from. */
interface Answering {
  readonly mirror: Mirror
  readonly claimed: Pick<Claimed, 'isMirrored'>
  /** Registries as they are, without other replicas in front of them. */
  readonly registries: Registries
  readonly inForce: { readonly current: { readonly directory: Directory } }
}

/** With more members than this, nobody reads their shares. */
const SHARES_MAX = 100

/** Replicas sit behind few addresses. */
const LISTENER_LIMITS: ServerLimits = {
  ...SERVER_LIMITS,
  connectionsPerAddressMax: SERVER_LIMITS.connectionsMax,
  surplusMax: 0,
  // Idle connections of many replicas would leave no room for those that ask.
  keepAliveMs: 10_000,
}

/** The other replicas, as this one asks them and answers them. */
export class Peering implements AsyncDisposable {
  readonly #parts: PeeringParts
  readonly #config: PeersConfig
  readonly #key: PeerKey
  readonly members: Members
  readonly following = new Following()
  readonly #wire: PeerWire
  readonly #tags: OwnedTags
  readonly #asking: PeerAsking
  readonly #lifetime = new AbortController()
  readonly #owned = new AsyncDisposableStack()
  #server: HttpServer | undefined
  /** Set once the daemon is built. */
  #answering: Answering | undefined

  constructor(config: PeersConfig, parts: PeeringParts) {
    const { clock, events, metrics, instance } = parts
    this.#parts = parts
    this.#config = config
    this.#key = new PeerKey(config.secret.reveal(), config.cluster)
    this.members = new Members(config.cluster, clock)
    this.#wire = this.#owned.use(new PeerWire({ key: this.#key, instance, clock }))
    this.#tags = new OwnedTags({
      clock,
      freshForMs: namespace => this.#freshForMs(namespace),
      lifetime: this.#lifetime.signal,
    })
    const { members } = this
    this.#asking = new PeerAsking({
      members,
      wire: this.#wire,
      metrics,
      events,
      clock,
      instance,
      isLeaving: () => this.#isLeaving,
    })
  }

  /** The same registries, with the replica that owns what is wanted in front of each. */
  over(registries: Registries): Registries {
    const { clock, config } = this.#parts
    const parts = {
      asking: this.#asking,
      following: this.following,
      tags: this.#tags,
      clock,
      isLinked: async (...asked: Parameters<Mirror['peerView']['isLinked']>) =>
        (await this.#answering?.mirror.peerView.isLinked(...asked)) === true,
      store: sharedStoreOf(config),
    }
    return new PeerRegistries(parts, registries)
  }

  /** Listens for the other replicas, and begins to look for them. */
  async listen(answering: Answering): Promise<string> {
    const { clock, events, metrics, instance, telling } = this.#parts
    const { mirror, claimed, registries, inForce } = answering
    this.#answering = answering
    const roll = new RollCall({
      members: this.members,
      wire: this.#wire,
      clock,
      events,
      metrics,
      instance,
      addresses: addressesOf(this.#config, this.#parts.resolve ?? systemResolve),
    })
    const responding = new Responding({
      mirror,
      isMirrored: async place => await claimed.isMirrored(place),
      directory: () => ({ ...inForce.current.directory, registries }),
      following: this.following,
      tags: this.#tags,
      version: version(),
      store: sharedStoreOf(this.#parts.config),
      isLeaving: () => this.#isLeaving,
      changed: changes => this.#changed(changes),
    })
    const listener = new PeerListener({
      key: this.#key,
      instance,
      clock,
      events,
      metrics,
      respond: async (question, trail) => await responding.respond(question, trail),
      heard: name => roll.heard(name),
    })
    this.#server = new HttpServer(
      async (request, response) => await listener.handle(request, response),
      LISTENER_LIMITS,
      undefined,
      { ...this.#key.tls, refused: (why, from) => listener.refuseConnection(why, from) },
    )
    const address = await this.#server.listen(this.#config.listen)
    this.#owned.use(roll)
    await roll.start()
    telling.start(this.members, this.#wire)
    return address
  }

  /** The members, for administrators. */
  report(): ReplicasReport {
    const { members, following } = this
    const shares = members.all.length > SHARES_MAX ? undefined : members.shares()
    return {
      cluster: this.#config.cluster,
      following: following.count,
      members: members.all.map(member => ({
        address: member.name,
        state: member.state,
        version: member.isSelf ? version() : member.met?.version,
        owns: shares?.get(member.name),
        asked: member.counts.asked,
        receivedBytes: member.counts.receivedBytes,
        failures: member.counts.failures,
        wrongContent: member.counts.lies,
        trouble: member.trouble,
      })),
    }
  }

  /** Stops accepting; resolves when the last question is answered. */
  async close(): Promise<void> {
    await this.#server?.close()
  }

  /** Stops accepting, and destroys every connection. */
  destroy(): void {
    this.#server?.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the mirror is shutting down'))
    await this.#owned.disposeAsync()
  }

  /** A replica that leaves owns nothing any more. */
  get #isLeaving(): boolean {
    const { leaving, draining } = this.#parts
    return leaving.signal.aborted || draining.signal.aborted
  }

  #freshForMs(namespace: Namespace): number {
    const directory = this.#answering?.inForce.current.directory
    return (directory?.terms.get(namespace) ?? directory?.defaultTerms)?.manifestInvalidationMs ?? 0
  }

  #changed(changes: readonly ToldChange[]): void {
    for (const { tag, digest, ...place } of changes) {
      if (tag !== undefined) this.#tags.changed(place, tag, digest)
      // Best effort, like the message: too much work at once is refused.
      this.#answering?.mirror.peerView.changed(place, { tag, digest }).catch(() => undefined)
    }
  }
}

/** The other replicas; `undefined` if none are configured. */
export function peeringOf(parts: PeeringParts): Peering | undefined {
  const { peers } = parts.config
  return peers === undefined ? undefined : new Peering(peers, parts)
}

/** Listens for the other replicas if there are any; `undo` closes the listener. */
export async function listenForPeers(
  { peering, ...answering }: Answering & { readonly peering: Peering | undefined },
  undo: AsyncDisposableStack,
): Promise<string | undefined> {
  undo.defer(() => peering?.destroy())
  return await peering?.listen(answering)
}

/**
 * Identity of a bucket, which is the same in all replicas that use it. Another bucket with the same address
 * does no harm: a replica that relies on it looks whether its own bucket has the content.
 */
function sharedStoreOf({ store }: Config): string | undefined {
  if (store.kind === 'filesystem') return undefined
  const { endpoint = '', bucket, prefix } = store
  return createHash('sha256').update(`${endpoint} ${bucket} ${prefix}`).digest('hex').slice(0, 16)
}

/** Time for one look-up of the members, in milliseconds. */
const LOOKUP_MS = 2000
const LOOKUP_EVERY_MS = 3000

/** The addresses of all members: as listed, or as the name resolves now. */
function addressesOf({ members }: PeersConfig, resolve: Resolve): () => Promise<readonly PeerAddress[]> {
  if (members.kind === 'list') return () => Promise.resolve(members.addresses)
  const { host, port } = members.name
  let [known, atMs]: [readonly PeerAddress[], number] = [[], Number.NEGATIVE_INFINITY]
  return async () => {
    if (performance.now() - atMs < LOOKUP_EVERY_MS) return known
    atMs = performance.now()
    const found = await resolve(host, AbortSignal.timeout(LOOKUP_MS)).catch((error: unknown) => {
      if (isAbsentName(error)) return []
      throw error
    })
    known = found.map(address => ({ host: address, port }))
    return known
  }
}
