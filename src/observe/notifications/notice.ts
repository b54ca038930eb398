import type { NoticeType } from '../../oci/notice-type.ts'
import type { Place } from '../../oci/place.ts'
import { type EventDetails, UPSTREAM_ACTOR } from '../event.ts'

/** What happened, as endpoints are told. It is kept as JSON. */
export interface Notice {
  /** Stays the same over all attempts, and when it is sent again. */
  readonly id: string
  readonly atMs: number
  readonly type: NoticeType
  /**
   * The repository with its namespace. Notices with the same subject reach an endpoint in their order;
   * `undefined` if it concerns no repository.
   */
  readonly subject: string | undefined
  /** Details, by the names that the documentation has. */
  readonly data: Readonly<Record<string, unknown>>
}

/** The part of a notice that the event determines. */
export interface NoticeDraft extends Pick<Notice, 'type' | 'subject' | 'data'> {
  readonly place: Place | undefined
}

type Drafts = {
  readonly [Kind in keyof EventDetails]?: (details: EventDetails[Kind]) => NoticeDraft
}

const DRAFTS: Drafts = {
  pushed: details => aboutPlace('manifest.pushed', details),
  'tag-moved': movedTag,
  'tag-lost': details => aboutPlace('upstream.tag.deleted', details),
  deleted: deletion,
  'quota-reached': ({ isRefused, ...details }) =>
    aboutPlace(isRefused ? 'quota.exceeded' : 'quota.warned', details),
  'retention-removed': details => aboutPlace('retention.removed', details),
  quarantined: ({ digest }) => condition('object.damaged', { digest }),
  'record-damaged': ({ record, outcome }) => condition('record.damaged', { record, outcome }),
  'breaker-changed': ({ namespace, isOpen }) => ({
    ...condition(isOpen ? 'upstream.unavailable' : 'upstream.available', { namespace }),
    subject: namespace,
  }),
}

/** The notice of an event; `undefined` for an event that endpoints are not told. */
export function draftNotice<Kind extends keyof EventDetails>(event: {
  readonly kind: Kind
  readonly details: EventDetails[Kind]
}): NoticeDraft | undefined {
  return DRAFTS[event.kind]?.(event.details)
}

/** A condition of the mirror itself or of an upstream. */
function condition(type: NoticeType, data: Notice['data']): NoticeDraft {
  return { type, subject: undefined, place: undefined, data }
}

function movedTag(details: EventDetails['tag-moved']): NoticeDraft {
  return aboutPlace(details.by === UPSTREAM_ACTOR ? 'upstream.tag.moved' : 'tag.moved', details)
}

function deletion({ what, ...details }: EventDetails['deleted']): NoticeDraft {
  const types = { tag: 'tag.deleted', manifest: 'manifest.deleted', blob: 'blob.deleted' } as const
  return aboutPlace(types[what], details)
}

function aboutPlace(type: NoticeType, details: Place): NoticeDraft {
  return { type, subject: `${details.namespace}/${details.repository}`, place: details, data: { ...details } }
}
