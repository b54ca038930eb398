import { LRUCache } from 'lru-cache'
import type { BreakerChange } from '../lib/breaker.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { type Cidr, parseNat64Prefix } from '../lib/ip-address.ts'
import type { Events } from '../observe/events.ts'
import type { Namespace } from '../oci/namespace.ts'
import { Authorizer, createTokenCache } from './auth/auth.ts'
import { openCredentials } from './auth/credentials.ts'
import type { Variables } from './auth/helper-environment.ts'
import { DIAL_TIMINGS, Dialer, type DialerOptions, type DialTimings } from './dial/dialer.ts'
import { chooseProxy, DIRECT, type Egress } from './dial/egress.ts'
import { type DialTerms, type NamespaceMode, requireMirrored } from './dial/policy.ts'
import { PublicResolver } from './dial/public-resolver.ts'
import { type Resolve, systemResolve } from './dial/resolve.ts'
import { STRANGER_LIMITS, type StrangerLimits, Strangers } from './dial/strangers.ts'
import { authorityText, type Origin } from './dial/target.ts'
import { HttpRegistry } from './http-registry.ts'
import { identify } from './identity.ts'
import { Gate } from './manners/gate.ts'
import { NegativeCache } from './manners/negative.ts'
import { createRepositoryBreakers, Outages } from './manners/outages.ts'
import { PACE_LIMITS, type PaceLimits } from './paced-body.ts'
import type { Registries, Registry } from './registry.ts'
import { converse, ping } from './session.ts'
import {
  EXCHANGE_TIMINGS,
  type ExchangeTimings,
  IDLE_LIMITS,
  STRANGER_IDLE_LIMITS,
  Transport,
} from './transport.ts'
import {
  configuredTerms,
  fingerprintOf,
  originOf,
  publicOptions,
  readTlsTerms,
  type UpstreamOptions,
} from './upstream-options.ts'

export interface RegistriesOptions {
  readonly upstreams: readonly UpstreamOptions[]
  /** Namespaces that are mirrored besides the configured ones. */
  readonly namespaces: NamespaceMode
  /** Namespace of requests that name none. It does not share the limits of namespaces that clients name. */
  readonly defaultNamespace?: Namespace
  /** Prefix of the network's own NAT64 (RFC 6052), as text. */
  readonly nat64Prefix?: string | undefined
  /** Proxies of all upstreams; none by default. */
  readonly egress?: Egress | undefined
  readonly events: Events
  /**
   * Name of this process in `CDN-Loop` (RFC 8586) and `Via`, by which it recognizes its own requests when
   * they come back.
   */
  readonly instance: string
  /** Version of this program, for the user agent. */
  readonly version?: string
  /** Our own environment. A credential helper gets a part of it. Empty if left out. */
  readonly environment?: Variables
  readonly clock?: Clock
  /**
   * Resolves all names. By default the machine's resolver is used for configured upstreams, and the DNS for
   * the others.
   */
  readonly resolve?: Resolve
  readonly strangerLimits?: Partial<StrangerLimits>
  readonly timings?: Partial<DialTimings & ExchangeTimings & PaceLimits>
  /** Called when a pause of an upstream begins or ends. */
  readonly onTrouble?: (namespace: Namespace) => void
}

interface Held {
  readonly registry: Registry
  readonly fingerprint: string
  readonly transport: Transport
}

/** All upstreams: the configured ones, and the public ones that clients named recently. */
export class UpstreamRegistries implements Registries, AsyncDisposable {
  readonly #options: RegistriesOptions
  readonly #clock: Clock
  readonly #tokens = createTokenCache()
  readonly #negative: NegativeCache
  readonly #repositoryBreakers = createRepositoryBreakers()
  readonly #nat64: Cidr | undefined
  readonly #strangers: Strangers
  readonly #dynamic: LRUCache<Namespace, Held>
  /** The registry of the default namespace, while that is not configured. */
  #default: Held | undefined
  /** Transports that belong to no upstream any more, but still have running requests. */
  readonly #leaving = new Set<Transport>()
  #configured: ReadonlyMap<Namespace, Held>

  /** Throws if a file that an upstream names cannot be read, or the host of an upstream is invalid. */
  constructor(options: RegistriesOptions) {
    const { clock = systemClock, nat64Prefix, strangerLimits, timings } = options
    this.#options = options
    this.#clock = clock
    this.#nat64 = nat64Prefix === undefined ? undefined : parseNat64Prefix(nat64Prefix)
    this.#negative = new NegativeCache(clock)
    const publicResolver = new PublicResolver({ monotonicMs: () => clock.monotonicMs() })
    const limits = { ...STRANGER_LIMITS, ...strangerLimits }
    this.#dynamic = new LRUCache({ max: limits.upstreamsMax, dispose: held => this.#release(held) })
    this.#strangers = new Strangers({
      clock,
      resolve: options.resolve ?? (async (name, signal) => await publicResolver.resolve(name, signal)),
      limits,
      resolveMs: timings?.resolveMs ?? DIAL_TIMINGS.resolveMs,
    })
    this.#configured = this.#openAll(options.upstreams, new Map())
  }

  get(namespace: Namespace): Registry {
    const held = this.#configured.get(namespace)
    if (held !== undefined) return held.registry
    return namespace === this.#options.defaultNamespace
      ? this.#getDefault(namespace).registry
      : this.#getDynamic(namespace).registry
  }

  #getDefault(namespace: Namespace): Held {
    requireMirrored(namespace, this.#options.namespaces)
    this.#default ??= this.#open(publicOptions(namespace), this.#dynamicTerms(namespace), undefined)
    return this.#default
  }

  #getDynamic(namespace: Namespace): Held {
    const held = this.#dynamic.get(namespace)
    if (held !== undefined) return held
    requireMirrored(namespace, this.#options.namespaces)
    const opened = this.#open(publicOptions(namespace), this.#dynamicTerms(namespace), this.#strangers)
    this.#dynamic.set(namespace, opened)
    return opened
  }

  #dynamicTerms(namespace: Namespace): DialTerms {
    const { namespaces, egress, defaultNamespace } = this.#options
    // No client chose the default namespace.
    const trustsProxies = egress?.trustsProxies === true || namespace === defaultNamespace
    return {
      kind: 'dynamic',
      namespace,
      isAnyAddress: namespaces === 'any',
      trustsProxies,
      nat64: this.#nat64,
    }
  }

  /**
   * Replaces the configured upstreams at once. Throws, and changes nothing, if one of them cannot be opened.
   * An upstream that stays the same keeps its tokens, connections and breaker. One that is removed finishes
   * its running requests.
   */
  replace(upstreams: readonly UpstreamOptions[]): void {
    const before = this.#configured
    this.#configured = this.#openAll(upstreams, before)
    const kept = new Set(this.#configured.values())
    for (const held of before.values()) if (!kept.has(held)) this.#release(held)
    for (const namespace of this.#configured.keys()) this.#dynamic.delete(namespace)
  }

  #release({ transport }: Held): void {
    this.#leaving.add(transport)
    void transport.release().finally(() => this.#leaving.delete(transport))
  }

  /** Breaks off every connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    const held = [...this.#configured.values(), ...this.#dynamic.values()]
    const transports = held.map(({ transport }) => transport)
    if (this.#default !== undefined) transports.push(this.#default.transport)
    await Promise.all([...transports, ...this.#leaving].map(transport => transport[Symbol.asyncDispose]()))
  }

  #openAll(
    upstreams: readonly UpstreamOptions[],
    old: ReadonlyMap<Namespace, Held>,
  ): ReadonlyMap<Namespace, Held> {
    return new Map(
      upstreams.map(options => {
        const held = old.get(options.namespace)
        const isSame =
          held !== undefined && held.fingerprint === fingerprintOf(options, readTlsTerms(options))
        return [options.namespace, isSame ? held : this.#openConfigured(options)] as const
      }),
    )
  }

  #openConfigured(options: UpstreamOptions): Held {
    return this.#open(options, configuredTerms(options, this.#nat64), undefined)
  }

  #open(options: UpstreamOptions, terms: DialTerms, strangers: Strangers | undefined): Held {
    const { events, instance, version, timings, environment = {} } = this.#options
    const { namespace } = options
    const clock = this.#clock
    const tls = readTlsTerms(options)
    const origin = originOf(options)
    const transport = new Transport({
      dialer: this.#openDialer(options, { terms, tls, strangers }),
      clock,
      timings: { ...EXCHANGE_TIMINGS, ...timings },
      idle: strangers === undefined ? IDLE_LIMITS : STRANGER_IDLE_LIMITS,
      instance,
      userAgent: options.userAgent ?? (version === undefined ? 'entrepot' : `entrepot/${version}`),
    })
    const names = [namespace, authorityText(origin)]
    const credentials =
      options.credentials === undefined
        ? undefined
        : openCredentials(options.credentials, names, { clock, environment })
    const { realms } = options
    const tokens = this.#tokens
    const outages = new Outages({ clock, repositories: this.#repositoryBreakers })
    const authorizer = new Authorizer({
      namespace,
      origin,
      realms,
      credentials,
      transport,
      tokens,
      outages,
      clock,
    })
    const registry = new HttpRegistry({
      namespace,
      origin,
      hasCredentials: credentials !== undefined,
      identify: async () => await identify(terms.kind, options, credentials),
      events,
      clock,
      gate: new Gate(),
      outages: this.#openOutages(namespace, origin, transport),
      negative: this.#negative,
      retryAfterMaxMs: options.retryAfterMaxMs,
      onTrouble: () => this.#options.onTrouble?.(namespace),
      paceLimits: { ...PACE_LIMITS, ...timings },
      exchange: async ({ path, isProved = false, ...question }, signal) => {
        const followsToHttp = isProved && options.allowHttpRedirects
        const request = { ...question, target: { origin, path }, followsToHttp }
        const session = { origin, transport, authorizer }
        if (strangers === undefined) return await converse(session, request, signal)
        return await strangers.onBehalfOf(question.asker?.client, () => converse(session, request, signal))
      },
    })
    return { registry, transport, fingerprint: fingerprintOf(options, tls) }
  }

  #openDialer({ proxy }: UpstreamOptions, parts: Pick<DialerOptions, 'terms' | 'tls' | 'strangers'>): Dialer {
    const { resolve = systemResolve, timings, egress = DIRECT } = this.#options
    return new Dialer({
      ...parts,
      resolve,
      timings: { ...DIAL_TIMINGS, ...timings },
      proxyFor: chooseProxy(proxy, egress),
    })
  }

  #openOutages(namespace: Namespace, origin: Origin, transport: Transport): Outages {
    const onTrouble = (): void => this.#options.onTrouble?.(namespace)
    return new Outages({
      clock: this.#clock,
      repositories: this.#repositoryBreakers,
      ping: async signal => await ping(transport, origin, signal),
      onTrouble,
      onChange: ({ isOpen, forMs }: BreakerChange) => {
        onTrouble()
        this.#options.events.breakerChanged({ namespace, isOpen, forMs })
      },
    })
  }
}
