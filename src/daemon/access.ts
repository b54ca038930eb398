import { randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { IdentityChain } from '../access/chain.ts'
import { Issuer } from '../access/issuer.ts'
import { Passwords } from '../access/passwords.ts'
import { Robots } from '../access/robots.ts'
import { type AccessPolicy, RuledAccess } from '../access/ruled-access.ts'
import { Sessions } from '../access/sessions.ts'
import type { AuthConfig, Config, FileSections, IssuerConfig } from '../config/config.ts'
import { FileWatch, type WatchEvents } from '../config/file/watch.ts'
import { AccessRecords, type AccessRecordsParts } from '../content/access-records.ts'
import type { Clock } from '../lib/clock.ts'
import { SharedCount } from '../lib/shared-count.ts'
import type { Events } from '../observe/events.ts'
import type { NameRules } from '../oci/place.ts'
import type { Rule } from '../oci/rules/rule.ts'
import { qualifyNames } from '../oci/rules/rule-names.ts'
import type { Resolve } from '../upstream/dial/resolve.ts'
import { Documents } from '../upstream/documents.ts'

/** Other processes may share the store, so robots are read again at this interval, in milliseconds. */
const ROBOTS_EVERY_MS = 60_000

export interface IdentityParts {
  readonly config: Config
  readonly store: AccessRecordsParts['store']
  readonly events: Events
  readonly clock: Clock
  readonly instance: string
  readonly resolve: Resolve | undefined
  /** CA of client certificates, in PEM. */
  readonly clientCa: string | undefined
}

/** What a reload puts into force. */
export interface AccessTerms {
  readonly sections: FileSections
  readonly directory: Pick<NameRules, 'defaultNamespace' | 'terms'>
}

/** An issuer with the connections to its server. */
interface OpenIssuer {
  readonly issuer: Issuer
  readonly documents: Documents
  readonly fingerprint: string
}

/** Everything that knows senders and rules, in the first thread. */
export class Identities implements AsyncDisposable {
  readonly access: RuledAccess
  readonly chain: IdentityChain
  readonly robots: Robots
  /** Goes up when remembered identities must be checked again. Threads share it. */
  readonly changes = new SharedCount()
  readonly #parts: IdentityParts
  readonly #passwords: Passwords
  readonly #timer: NodeJS.Timeout
  #issuers: ReadonlyMap<string, OpenIssuer> = new Map()
  #terms: AccessTerms
  #watch: { readonly path: string; readonly watch: FileWatch } | undefined
  #usersEvents: WatchEvents | undefined

  /**
   * Rejects if a file of an issuer cannot be read. If the robots cannot be read, they have no rights until
   * the next try.
   */
  static async start(parts: IdentityParts, terms: AccessTerms): Promise<Identities> {
    const identities = new Identities(parts, terms)
    await identities.#readRobots()
    return identities
  }

  private constructor(parts: IdentityParts, terms: AccessTerms) {
    const { store, events, clock } = parts
    this.#parts = parts
    this.#terms = terms
    this.#issuers = this.#openIssuers(terms.sections.auth)
    this.#passwords = new Passwords(clock)
    const records = new AccessRecords({ store, events })
    this.robots = new Robots({ store: records, clock, revoked: () => this.changes.add(1) })
    const sessions = new Sessions(async () => await this.#signingKey(records), clock)
    this.chain = new IdentityChain(
      { robots: this.robots, sessions, passwords: this.#passwords, clock, events },
      this.#chainTerms(),
    )
    this.chain.trustCertificatesOf(parts.clientCa)
    this.access = new RuledAccess(
      {
        identifier: this.chain,
        changes: this.changes,
        clock,
        events,
        hasRobots: () => this.robots.list().length > 0,
      },
      policyOf(terms),
    )
    this.#timer = setInterval(() => void this.#readRobots(), ROBOTS_EVERY_MS).unref()
  }

  /** The rules in force, for another thread. */
  get policy(): AccessPolicy {
    return policyOf(this.#terms)
  }

  /** URL of the token endpoint, if the configuration names it. */
  get realm(): string | undefined {
    return this.#terms.sections.auth.realm
  }

  /**
   * Prepares other terms, and returns the function that puts them into force. Throws if a file of an issuer
   * cannot be read.
   */
  prepare(terms: AccessTerms): () => void {
    const issuers = this.#openIssuers(terms.sections.auth)
    return () => {
      const before = this.#issuers
      this.#auditChange(terms.sections)
      this.#issuers = issuers
      this.#terms = terms
      this.chain.replace(this.#chainTerms())
      this.access.replace(policyOf(terms))
      this.changes.add(1)
      void this.#followUsers()
      const kept = new Set(issuers.values())
      for (const issuer of before.values())
        if (!kept.has(issuer)) void issuer.documents[Symbol.asyncDispose]()
    }
  }

  /** Believes client certificates of this CA from now on; see {@link IdentityChain.trustCertificatesOf}. */
  trustCertificatesOf(ca: string | undefined): void {
    this.chain.trustCertificatesOf(ca)
    this.changes.add(1)
  }

  /** Watches the file of users from now on, also another one that a reload names; resolves once it does. */
  async watchUsers(events: WatchEvents): Promise<void> {
    this.#usersEvents = events
    await this.#followUsers()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    this.#watch?.watch[Symbol.dispose]()
    await this.#passwords[Symbol.asyncDispose]()
    for (const { documents } of this.#issuers.values()) await documents[Symbol.asyncDispose]()
  }

  /** Who wrote the file is not known; a file that says the same is no change. */
  #auditChange(next: FileSections): void {
    const changed = changesOf(this.#terms.sections, next)
    if (changed.length === 0) return
    const { upstreamConfigFile = 'the upstream file' } = this.#parts.config
    const what = `${changed.join(', ')} in ${upstreamConfigFile}`
    this.#parts.events.audited({ action: 'rules', who: 'administrator', what })
  }

  async #followUsers(): Promise<void> {
    const { htpasswdFile: path } = this.#terms.sections.auth
    const events = this.#usersEvents
    if (events === undefined || path === this.#watch?.path) return
    this.#watch?.watch[Symbol.dispose]()
    this.#watch = path === undefined ? undefined : { path, watch: new FileWatch(path, events) }
    await this.#watch?.watch.start()
  }

  /** A key of this process alone, if the store cannot hold one: its tokens end with the process. */
  async #signingKey(records: AccessRecords): Promise<Uint8Array> {
    try {
      return await records.signingKey()
    } catch (error) {
      this.#parts.events.storageFailed('signing-key', error)
      return randomBytes(32)
    }
  }

  async #readRobots(): Promise<void> {
    try {
      await this.robots.refresh()
    } catch (error) {
      this.#parts.events.storageFailed('read-robots', error)
    }
  }

  #chainTerms(): { readonly auth: AuthConfig; readonly issuers: ReadonlyMap<string, Issuer> } {
    const issuers = new Map([...this.#issuers].map(([url, { issuer }]) => [url, issuer] as const))
    return { auth: this.#terms.sections.auth, issuers }
  }

  /** Issuers whose settings are the same keep their keys and connections. */
  #openIssuers({ issuers }: AuthConfig): ReadonlyMap<string, OpenIssuer> {
    return new Map(
      issuers.map(config => {
        const fingerprint = JSON.stringify({ ...config, requiredClaims: [...config.requiredClaims] })
        const known = this.#issuers.get(config.issuer)
        return [config.issuer, known?.fingerprint === fingerprint ? known : this.#open(config, fingerprint)]
      }),
    )
  }

  #open(config: IssuerConfig, fingerprint: string): OpenIssuer {
    const { clock, instance, resolve, config: own } = this.#parts
    const { name, caFile, tokenFile, allowAddresses } = config
    const documents = new Documents({
      name,
      url: config.jwksUrl ?? config.issuer,
      caFile,
      tokenFile,
      allowAddresses,
      egress: own.egress,
      clock,
      instance,
      resolve,
    })
    const issuer = new Issuer({ config, clock, fetchDocument: async url => await documents.fetch(url) })
    return { issuer, documents, fingerprint }
  }
}

function policyOf({ sections, directory }: AccessTerms): AccessPolicy {
  const { auth, rules } = sections
  const qualified = rules.map(rule => ({
    ...rule,
    names: rule.names.map(names => qualifyNames(names, directory)),
  }))
  return { rules: qualified, groups: auth.groups, challenge: auth.challenge }
}

/** The parts of the configuration that decide who may do what, and differ. */
function changesOf(before: FileSections, next: FileSections): readonly string[] {
  const parts = ['users', 'groups', 'issuers', 'generations', 'challenge'] as const
  // Rows may move to other lines without saying anything else.
  const rowsOf = ({ rules }: FileSections): readonly Rule[] => rules.map(rule => ({ ...rule, line: 0 }))
  return [
    ...(isDeepStrictEqual(rowsOf(before), rowsOf(next)) ? [] : ['rules']),
    ...parts.filter(part => !isDeepStrictEqual(before.auth[part], next.auth[part])),
  ]
}
