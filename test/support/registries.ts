import { type Clock, systemClock } from '../../src/lib/clock.ts'
import { Events } from '../../src/observe/events.ts'
import { openLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import type { RepositoryName } from '../../src/oci/name.ts'
import { parseRepositoryName, parseTag } from '../../src/oci/name.ts'
import { type Namespace, parseConfiguredNamespace } from '../../src/oci/namespace.ts'
import type { Reference } from '../../src/oci/reference.ts'
import { type RegistriesOptions, UpstreamRegistries } from '../../src/upstream/registries.ts'
import type { UpstreamOptions } from '../../src/upstream/upstream-options.ts'
import { certificatePath, type FakeUpstream } from './upstream.ts'

/** Registries over fake upstreams, with their log lines and metrics. */
export interface TestRegistries extends AsyncDisposable {
  readonly registries: UpstreamRegistries
  /** Every log line so far, from level debug on. */
  readonly lines: readonly string[]
  metrics(): Promise<string>
}

/** Opens registries, with the daemon's values for all options that are left out. */
export function openRegistries(options: Partial<RegistriesOptions>): TestRegistries {
  const lines: string[] = []
  const metrics = createMetrics()
  const log = openLog('debug', { write: line => lines.push(line) })
  const registries = new UpstreamRegistries({
    upstreams: [],
    namespaces: 'public',
    instance: 'entrepot-test',
    version: '0.0.0-test',
    ...options,
    events: new Events(log, metrics),
    timings: { retryPauseMs: 1, ...options.timings },
  })
  return {
    registries,
    lines,
    metrics: async () => (await metrics.render()).text,
    [Symbol.asyncDispose]: () => registries[Symbol.asyncDispose](),
  }
}

/** Configuration of a fake upstream; trusts the test authority if the fake speaks TLS. */
export function upstreamOptions(
  upstream: Pick<FakeUpstream, 'host' | 'origin'>,
  options: Partial<UpstreamOptions> = {},
): UpstreamOptions {
  const tls = upstream.origin.startsWith('https:')
  return {
    namespace: namespace('registry.example.test'),
    host: upstream.host,
    tls,
    acceptInvalidCerts: false,
    caFile: tls ? certificatePath('ca.pem') : undefined,
    clientCertFile: undefined,
    clientKeyFile: undefined,
    userAgent: undefined,
    credentials: undefined,
    allowAddresses: [],
    realms: [],
    retryAfterMaxMs: 5000,
    allowHttpRedirects: false,
    ...options,
  }
}

export function namespace(text: string): Namespace {
  return must(parseConfiguredNamespace(text))
}

export function repository(text: string): RepositoryName {
  return must(parseRepositoryName(text))
}

export function tagged(text: string): Reference {
  return { kind: 'tag', tag: must(parseTag(text)) }
}

/** Returns a value that must be present. */
export function must<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError('a test meant something to be there that is not')
  return value
}

/** A clock that only the test and delays move; delays end at once. */
export function heldClock(): Clock & { advance(ms: number): void } {
  let nowMs = 1_000_000
  return {
    wallMs: () => Date.UTC(2026, 0, 1) + nowMs,
    monotonicMs: () => nowMs,
    delay: async (ms, signal) => {
      signal?.throwIfAborted()
      nowMs += ms
      await systemClock.delay(0)
    },
    advance: ms => {
      nowMs += ms
    },
  }
}
