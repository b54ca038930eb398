import type { LogFormat, LogLevel } from '../lib/log-level.ts'
import type { NamePattern } from '../oci/name-pattern.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { NoticeType } from '../oci/notice-type.ts'
import type { AdmissionRules } from '../oci/rules/admission-rules.ts'
import type { Rule, WhoPattern } from '../oci/rules/rule.ts'
import type { TagChoice } from '../oci/tag-choice.ts'
import type { PeersConfig } from './peers/peers-config.ts'
import type { EgressConfig, ProxyConfig } from './proxy.ts'
import type { Secret } from './secret.ts'

/** Configuration of the daemon: times in ms, sizes in bytes. */
export interface Config {
  /** Address for clients; `0.0.0.0:8080` by default. It uses TLS if {@link tls} names no other address. */
  readonly listen: ListenAddress
  /** TLS for clients; `undefined` if they use plain HTTP only. */
  readonly tls?: TlsConfig | undefined
  /** Address for metrics and administration; `127.0.0.1:8081` by default, `undefined` if it is off. */
  readonly adminListen: ListenAddress | undefined
  /** Bearer token of the admin API; `undefined` if it needs none, which only a local listener may. */
  readonly adminToken?: Secret | undefined
  readonly adminTokenFile?: string | undefined
  /** Namespace of requests that do not name one; `docker.io` by default. */
  readonly defaultNamespace: Namespace
  /** Namespaces to mirror besides the configured ones; `public` by default. */
  readonly namespaces: NamespacePolicy
  /** Prefix of the network's own NAT64, as text; `undefined` if it has none. */
  readonly nat64Prefix?: string | undefined
  /** Proxies for connections to registries; none by default. */
  readonly egress?: EgressConfig
  /** True if every read of a stored object is verified, not only the first after the start. */
  readonly checkCacheDigest: boolean
  /** Other replicas of this mirror; `undefined` if it works alone. */
  readonly peers?: PeersConfig | undefined
  /** Serve cached content, and ask no registry. */
  readonly isOffline?: boolean
  /** Serve a range of a blob under download only after the whole blob is verified. */
  readonly provesRanges?: boolean
  /** The file that {@link upstreams} came from, read again on SIGHUP. */
  readonly upstreamConfigFile: string | undefined
  /** Credentials from `UPSTREAM_CREDENTIALS`; a reload of the file hands them to `loadUpstreams` again. */
  readonly upstreamCredentials?: ReadonlyMap<Namespace, UpstreamCredentials>
  readonly upstreams: readonly UpstreamConfig[]
  /** The other sections of the upstream file. */
  readonly sections: FileSections
  readonly store: StoreConfig
  /** Write nothing: serve stored content, and pass everything else through. */
  readonly isReadOnly?: boolean
  /** True if no other process ever writes to the store. */
  readonly isSingleWriter?: boolean
  /** Start even if the data directory cannot be written; pulls then pass through uncached. */
  readonly passesThrough?: boolean
  /** Limits of the cache's size. */
  readonly space?: SpaceConfig
  /** Time to serve on after SIGTERM while `/readyz` says 503; 0 by default. */
  readonly drainDelayMs?: number
  /** Time that running transfers have to finish after SIGTERM and that delay; 300 s by default. */
  readonly drainMs: number
  readonly scrub: ScrubConfig
  /** Serve scripts that point clients at the mirror; on by default. */
  readonly servesSetup?: boolean
  readonly logLevel: LogLevel
  /** `auto` by default: for people on a terminal, JSON otherwise. */
  readonly logFormat?: LogFormat
  /** Destination of the audit log; `log`, the default, is the log itself. */
  readonly auditLog?: 'log' | 'off' | { readonly file: string }
  /** Limits for each client; none by default. */
  readonly clientLimits?: {
    readonly requestsPerSecond: number | undefined
    /** Blobs that a client may download at the same time. */
    readonly downloads: number | undefined
  }
  /** Number of threads that serve clients, on Linux; 1 unless given. */
  readonly workers?: number
  /** Send files inside the kernel where that works; `true` by default. */
  readonly usesSendfile?: boolean
  /** Send traces to a collector; `false` by default. */
  readonly traces?: boolean
}

/**
 * `public`: over https, without credentials, to globally routable addresses; `configured`: no others; `any`:
 * no address check.
 */
export type NamespacePolicy = 'public' | 'configured' | 'any'

/** Background verification of everything that is stored. */
export interface ScrubConfig {
  /** From the start of one round to the next; 7 d by default on a file system, `undefined` for never. */
  readonly intervalMs: number | undefined
  /** 16 MiB by default. */
  readonly bytesPerSecond: number
}

/** A TCP address or the path of a unix socket. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** TLS for clients. */
export interface TlsConfig {
  /** Addresses that use TLS; if empty, `listen` does. */
  readonly listen: readonly ListenAddress[]
  readonly certificate:
    | { readonly kind: 'files'; readonly certFile: string; readonly keyFile: string }
    /** Made in the directory, for the names of this machine and these further ones. */
    | { readonly kind: 'self-signed'; readonly directory: string; readonly names: readonly string[] }
  /** The CA of client certificates; `undefined` if clients are not asked for one. */
  readonly clients: { readonly caFile: string; readonly isRequired: boolean } | undefined
}

export type StoreConfig =
  | { readonly kind: 'filesystem'; readonly root: string }
  | {
      readonly kind: 's3'
      readonly bucket: string
      readonly region: string
      /** A URL of scheme, host and port; `undefined` is Amazon's own. */
      readonly endpoint: string | undefined
      readonly accessKey: Secret | undefined
      readonly secretKey: Secret | undefined
      /** Prefix of every key: empty, or ending with a slash. */
      readonly prefix: string
      readonly isPathStyle: boolean
      /** Directory for blobs under download, until they are in the bucket; `./data/spool` by default. */
      readonly spoolDirectory: string
      /** Room for local copies of small objects; 0, the default, for none. */
      readonly copiesBytes?: number
      /** True if a client that asks for a verified blob is redirected to the bucket; off by default. */
      readonly isRedirecting: boolean
      /**
       * A URL of scheme, host and port by which clients reach the bucket, where that is not {@link endpoint}.
       */
      readonly redirectEndpoint: string | undefined
    }

/** Limits of a cache. */
export interface SpaceConfig {
  /** Maximum size; if `undefined`, {@link minFree} alone limits it. */
  readonly maxSize: SizeConfig | undefined
  /** Space to leave free on its file system; by default the larger of 5 % and 2 GiB, but at most 10 %. */
  readonly minFree: SizeConfig | undefined
  /** Share, from 0 to 1, for all namespaces that are not configured together; 0.2 by default. */
  readonly dynamicShare: number
  /** Most objects to evict from a bucket in a second; 500 by default. */
  readonly evictionsPerSecond?: number | undefined
  /** Largest blob to keep; a percentage refers to what the cache can hold; 50 % by default. */
  readonly maxBlob?: SizeConfig | undefined
}

/** A size, or a part of the file system. */
export type SizeConfig =
  | { readonly kind: 'bytes'; readonly bytes: number }
  | { readonly kind: 'percent'; readonly percent: number }

/** Sections of the upstream file besides its upstreams. One that the file leaves out has its default. */
export interface FileSections {
  /** Names whose content is pushed here and comes from no registry; none by default. */
  readonly hosted: readonly HostedClaim[]
  /** Rules for hosted repositories; none by default. */
  readonly policies: readonly HostedPolicy[]
  /** Endpoints that are told what happens; none by default. */
  readonly notifications: readonly NotificationConfig[]
  readonly auth: AuthConfig
  /** Who may do what, read from the top; none by default. */
  readonly rules: readonly Rule[]
  /** Images that are pulled into the cache at intervals; none by default. */
  readonly warm: readonly WarmRule[]
  /** Images that the Pods of a cluster may use; for `entrepot admission`, not for the daemon. */
  readonly admission: AdmissionRules | undefined
}

/** Tags of one repository that are pulled into the cache at intervals. */
export interface WarmRule extends TagChoice {
  /** Name of the repository, as clients write it. */
  readonly image: string
  /** Platforms to pull; all of them if there is none. */
  readonly platforms: readonly string[]
  readonly intervalMs: number
}

/** Who can prove to be somebody. */
export interface AuthConfig {
  readonly htpasswdFile: string | undefined
  /** The users of that file, each with its hash. */
  readonly users: ReadonlyMap<string, string>
  /** Members of each group, as patterns of names. */
  readonly groups: ReadonlyMap<string, readonly WhoPattern[]>
  /** Tokens of an earlier generation of an identity are void; 0 if it is not listed. */
  readonly generations: ReadonlyMap<string, number>
  readonly issuers: readonly IssuerConfig[]
  /** URL of the token endpoint as clients reach it; derived from the request by default. */
  readonly realm: string | undefined
  /**
   * When `GET /v2/` asks for a login. `needed`: if the rules let nobody pull anonymously. `always`: always.
   * `auto`, the default: if a login gives somebody more than the anonymous have.
   */
  readonly challenge: 'auto' | 'needed' | 'always'
}

/** An issuer of OIDC tokens. */
export interface IssuerConfig {
  /** Prefix of its identities in rules. */
  readonly name: string
  readonly issuer: string
  /** URL of its keys; found by discovery by default. */
  readonly jwksUrl: string | undefined
  readonly audiences: readonly string[]
  /** The name of an identity, with claims in braces, such as `{repository}@{ref}`. */
  readonly identity: string
  /** Claims that a token must have, each with the globs that its value may fit. */
  readonly requiredClaims: ReadonlyMap<string, readonly string[]>
  /** Claim with a list of groups. */
  readonly groupsClaim: string | undefined
  readonly caFile: string | undefined
  /** Bearer token for the request for keys. */
  readonly tokenFile: string | undefined
  /** CIDR blocks in which the issuer may be although the policy refuses them. */
  readonly allowAddresses: readonly string[]
}

/** Rules for hosted repositories. Of several that name a repository, the first one counts. */
export interface HostedPolicy {
  readonly names: NamePattern
  /** Globs of tags that keep their first digest for ever. */
  readonly immutableTags: readonly string[]
  readonly quotaBytes: number | undefined
  readonly isReadOnly: boolean
  readonly retention:
    | {
        /** Globs of the tags that may go. */
        readonly tags: readonly string[]
        readonly keepPushed: number
        readonly pushedWithinMs: number
        readonly keepPulled: number
        readonly pulledWithinMs: number
        readonly keepsVersions: boolean
      }
    | undefined
}

/** Names that are hosted. */
export interface HostedClaim {
  readonly names: NamePattern
  /** Registry that repositories without a push are mirrored from; `undefined` if no registry is asked. */
  readonly fallback: Namespace | undefined
}

/** Nobody can log in but robots. */
export const NO_AUTH: AuthConfig = {
  htpasswdFile: undefined,
  users: new Map(),
  groups: new Map(),
  generations: new Map(),
  issuers: [],
  realm: undefined,
  challenge: 'auto',
}

/** The sections of a file that has none. */
export const NO_SECTIONS: FileSections = {
  hosted: [],
  policies: [],
  notifications: [],
  auth: NO_AUTH,
  rules: [],
  warm: [],
  admission: undefined,
}

/** One entry of the upstream file. */
export interface UpstreamConfig {
  readonly namespace: Namespace
  /** `host` or `host:port`, as it is dialled. */
  readonly host: string
  readonly tls: boolean
  readonly acceptInvalidCerts: boolean
  readonly caFile: string | undefined
  readonly clientCertFile: string | undefined
  readonly clientKeyFile: string | undefined
  readonly userAgent: string | undefined
  readonly credentials: UpstreamCredentials | undefined
  /** Time that a tag is served without asking the upstream; 60 s by default. */
  readonly manifestInvalidationMs: number
  /** Time without a request after which a blob may be evicted; never by default. */
  readonly blobInvalidationMs: number | undefined
  /** Time that a stale tag is served while the upstream is in trouble; 7 d by default. */
  readonly staleIfErrorMs: number
  /** Longest wait of a client for the revalidation of a cached tag; 3 s by default. */
  readonly revalidationWaitMs: number
  /** `keep`, the default, serves a tag that the upstream has deleted until it is too stale. */
  readonly deletedTags: 'keep' | 'forget'
  /** Longest time without a byte before a download fails, resumes included; 45 s by default. */
  readonly silenceMaxMs: number
  /** CIDR blocks in which the upstream may be although the policy refuses them. */
  readonly allowAddresses: readonly string[]
  /** Other hosts that may get the upstream's credentials, as token realms. */
  readonly realms: readonly string[]
  /** Longest `Retry-After` to wait out within a request; 5 s by default. */
  readonly retryAfterMaxMs: number
  /** Follow redirects from https to http for content that is verified by digest; off by default. */
  readonly allowHttpRedirects: boolean
  /** Proxy for all hosts of the upstream; `none` for no proxy, `undefined` for that of the environment. */
  readonly proxy?: ProxyConfig | 'none' | undefined
}

/** An endpoint that is told what happens. */
export interface NotificationConfig {
  /** Unique. It is shown, unlike the URL. */
  readonly name: string
  /** Address of requests. Its path or query may hold a token. */
  readonly url: Secret
  /** `cloudevents`, the default, or the envelope of CNCF Distribution. */
  readonly format: 'cloudevents' | 'distribution'
  /** File with the key of the signature; `undefined` for unsigned requests. */
  readonly secretFile: string | undefined
  /** All of them by default. */
  readonly types: readonly NoticeType[]
  /** Only these repositories, and events that concern none; all of them if `undefined`. */
  readonly names: readonly NamePattern[] | undefined
  readonly caFile: string | undefined
  /** CIDR blocks in which the endpoint may be although the policy refuses them. */
  readonly allowAddresses: readonly string[]
  /** Longest time that an answer may take; 10 s by default. */
  readonly timeoutMs: number
}

export type UpstreamCredentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: Secret }
  | { readonly kind: 'password-file'; readonly username: string; readonly passwordFile: string }
  | { readonly kind: 'docker-config'; readonly file: string }

/** Settings of an upstream that is not configured. */
export const UPSTREAM_DEFAULTS = {
  tls: true,
  acceptInvalidCerts: false,
  manifestInvalidationMs: 60_000,
  staleIfErrorMs: 7 * 24 * 3_600_000,
  revalidationWaitMs: 3000,
  deletedTags: 'keep',
  silenceMaxMs: 45_000,
  retryAfterMaxMs: 5000,
  allowHttpRedirects: false,
} as const
