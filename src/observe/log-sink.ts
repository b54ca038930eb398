import type { Clock } from '../lib/clock.ts'
import { DESCRIPTORS_REMEDY, lacksDescriptors } from './descriptors.ts'
import {
  type Event,
  type EventDetails,
  type EventHandlers,
  type EventSink,
  type FinishedFill,
  type FinishedRequest,
  handleEvent,
} from './event.ts'
import { clip, type Log } from './log.ts'
import { failureKind, RepeatedLines } from './repeated-lines.ts'

/** Writes events to the log. */
export class LogSink implements EventSink {
  readonly #log: Log
  readonly #repeated: RepeatedLines
  readonly #handlers: EventHandlers = {
    started: fields => this.#log.info(fields, 'listening'),
    leaving: fields => this.#log.info(fields, 'told to stop: serving until load balancers have noticed'),
    draining: fields => this.#log.info(fields, 'draining'),
    stopped: fields => this.#stopped(fields),
    warned: ({ message, fields }) => this.#log.warn(fields, message),
    reloaded: fields => this.#log.info(fields, 'upstream file reloaded'),
    'reload-failed': ({ error }) =>
      this.#log.error({ err: error }, 'upstream file not reloaded, nothing changed'),
    'certificate-loaded': ({ notAfterMs, ...fields }) =>
      this.#log.info({ ...fields, notAfter: new Date(notAfterMs).toISOString() }, 'TLS certificate loaded'),
    'certificate-failed': ({ error }) =>
      this.#log.error({ err: error }, 'TLS certificate not loaded, the one before stays'),
    'upstream-answered': fields => this.#log.debug(fields, 'upstream answered'),
    'upstream-failed': failure => this.#upstreamFailed(failure),
    'breaker-changed': change =>
      this.#log.warn(change, change.isOpen ? 'upstream is left alone' : 'upstream is asked again'),
    'rate-limit-seen': undefined,
    'fill-started': undefined,
    'fill-resumed': resume => this.#fillResumed(resume),
    'fill-finished': fill => this.#fillFinished(fill),
    'stale-served': stale => this.#staleServed(stale),
    'tag-lost': fields =>
      this.#log.warn(fields, 'tag deleted by its upstream: served as it was, within the stale limit'),
    'store-opened': fields => this.#log.info(fields, 'store opened'),
    's3-answered': undefined,
    'storage-failed': failure => this.#storageFailed(failure),
    'bypass-changed': change => this.#bypassChanged(change),
    'hosted-content-lost': lost => this.#log.error(lost, 'hosted content is damaged or gone: push it again'),
    quarantined: ({ digest, error }) =>
      this.#log.error({ digest, err: error }, 'stored object is damaged and was quarantined'),
    'record-damaged': ({ record, outcome, error }) =>
      this.#log.error({ record, outcome, err: error }, 'a record of this mirror is damaged'),
    scrubbed: undefined,
    'scrub-ended': counts => this.#log.info(counts, 'scrub has verified the whole store'),
    'space-measured': undefined,
    evicted: slice => this.#log.info(slice, 'evicted'),
    'room-refused': fields =>
      this.#repeated.warn(
        'room',
        fields,
        'no room: this is too large for the cache, or everything in it is pinned or in use',
      ),
    'index-walked': walk => this.#log.info(walk, 'index is up to date with the store'),
    swept: fields => this.#log.info(fields, 'leftovers of an earlier run were swept'),
    'client-limited': undefined,
    audited: undefined,
    'foreign-credentials': undefined,
    pushed: fields => this.#log.info(fields, 'pushed'),
    'tag-moved': fields => this.#log.info(fields, 'tag moved'),
    deleted: fields => this.#log.info(fields, 'deleted'),
    'quota-reached': fields =>
      this.#repeated.warn(
        `quota ${fields.quota} ${fields.isRefused}`,
        fields,
        fields.isRefused ? 'push refused: the quota is used up' : 'quota is nearly used up',
      ),
    collected: fields => this.#log.info(fields, 'collected: no hosted repository needs it'),
    'retention-removed': fields => this.#log.info(fields, 'tag removed by a retention rule'),
    'notification-sent': sent => this.#notificationSent(sent),
    'endpoint-disabled': fields =>
      this.#log.error(fields, 'endpoint answered 410 and gets no more notifications'),
    'spans-dropped': ({ error }) => this.#repeated.warn('spans', { err: error }, 'traces were dropped'),
    'notifications-dropped': fields => this.#log.error(fields, 'notifications were dropped'),
  }

  constructor(log: Log, clock: Pick<Clock, 'monotonicMs'>) {
    this.#log = log
    this.#repeated = new RepeatedLines(log, clock)
  }

  take(event: Event): void {
    handleEvent(this.#handlers, event)
  }

  /** Writes one line of the access log. */
  requestFinished(request: FinishedRequest): void {
    const line = accessLine(request)
    // Probes come every few seconds, and say nothing as long as they are answered.
    if (PROBES.has(request.resource) && request.error === undefined) {
      this.#log.debug(line, 'request')
      return
    }
    // An error needs the log's own form. A line without one is written faster as it is.
    if (request.error !== undefined || this.#log.infoJson === undefined) this.#log.info(line, 'request')
    else this.#log.infoJson(JSON.stringify(line), 'request')
  }

  /** Writes the counts of repeated lines that are due. */
  flushRepeated(): void {
    this.#repeated.flush()
  }

  /** Reports a sink that threw. */
  sinkFailed(event: Event['kind'], error: unknown): void {
    const kind = `sink ${event} ${failureKind(error)}`
    this.#repeated.error(kind, { event, err: error }, 'an event was not fully recorded')
  }

  #stopped(fields: EventDetails['stopped']): void {
    this.#repeated.end()
    this.#log.info(fields, 'stopped')
  }

  #upstreamFailed({ namespace, verb, kind, error }: EventDetails['upstream-failed']): void {
    const fields = { namespace, verb, kind, err: error }
    this.#repeated.warn(`upstream ${namespace} ${verb} ${kind}`, fields, 'upstream failed')
  }

  #fillResumed({ error, ...fields }: EventDetails['fill-resumed']): void {
    const kind = `resume ${fields.namespace} ${failureKind(error)}`
    this.#repeated.warn(kind, { ...fields, err: error }, 'fill resumes after upstream trouble')
  }

  #fillFinished({ error, ...fields }: FinishedFill): void {
    if (error === undefined) {
      this.#log.info(fields, 'fill finished')
      return
    }
    const failed = { ...fields, err: error }
    // Wrong bytes are not an outage: the log names each such blob.
    if (fields.result === 'mismatch') this.#log.warn(failed, 'fill failed')
    else {
      const kind = `fill ${fields.namespace} ${fields.result} ${failureKind(error)}`
      this.#repeated.warn(kind, failed, 'fill failed')
    }
  }

  #staleServed({ error, ...fields }: EventDetails['stale-served']): void {
    const kind = `stale ${fields.namespace} ${failureKind(error)}`
    this.#repeated.warn(kind, { ...fields, err: error }, 'stale tag served')
  }

  #notificationSent({ endpoint, result, error }: EventDetails['notification-sent']): void {
    if (result === 'delivered') return
    const kind = `notification ${endpoint} ${result} ${failureKind(error)}`
    this.#repeated.warn(kind, { endpoint, result, err: error }, 'notification not delivered')
  }

  #storageFailed({ operation, error }: EventDetails['storage-failed']): void {
    const kind = `storage ${operation} ${failureKind(error)}`
    this.#repeated.error(kind, { operation, err: error }, 'storage failed')
  }

  #bypassChanged({ isBypassing, error }: EventDetails['bypass-changed']): void {
    const remedy = lacksDescriptors(error) ? { remedy: DESCRIPTORS_REMEDY } : {}
    const fields = error === undefined ? {} : { ...remedy, err: error }
    if (isBypassing)
      this.#log.error(fields, 'store cannot be written: pulls pass through uncached until it can')
    else this.#log.info({}, 'store can be written again')
  }
}

const PROBES: ReadonlySet<string> = new Set(['live', 'ready'])

function accessLine(request: FinishedRequest): object {
  const { repository, reference, userAgent, error } = request
  return {
    id: request.id,
    method: request.method,
    resource: request.resource,
    status: request.status,
    outcome: request.outcome,
    namespace: request.namespace,
    repository: repository === undefined ? undefined : clip(repository),
    reference: reference === undefined ? undefined : clip(reference),
    client: request.client,
    identity: clip(request.identity),
    userAgent: userAgent === undefined ? undefined : clip(userAgent),
    sentBytes: request.sentBytes,
    durationMs: Math.round(request.durationMs * 10) / 10,
    isAborted: request.isAborted ? true : undefined,
    err: error,
  }
}
