import type { Notice } from './notice.ts'

/** Body of a request to an endpoint. */
export interface Envelope {
  readonly contentType: string
  readonly body: string
}

/** Names of the process that sends a notice. */
export interface Sender {
  /** URI reference that is the same after a restart; with the id of a notice it is unique. */
  readonly source: string
  /** Name of this process. */
  readonly instance: string
}

/** A CloudEvent 1.0 in its structured JSON form. */
export function cloudEvent({ id, atMs, type, subject, data }: Notice, { source }: Sender): Envelope {
  const event = {
    specversion: '1.0',
    id,
    source,
    type: `entrepot.${type}`,
    time: new Date(atMs).toISOString(),
    ...(subject === undefined ? {} : { subject }),
    datacontenttype: 'application/json',
    data,
  }
  return { contentType: 'application/cloudevents+json; charset=UTF-8', body: JSON.stringify(event) }
}

const ACTIONS: ReadonlyMap<Notice['type'], string> = new Map([
  ['manifest.pushed', 'push'],
  ['tag.moved', 'push'],
  ['tag.deleted', 'delete'],
  ['manifest.deleted', 'delete'],
  ['blob.deleted', 'delete'],
  ['retention.removed', 'delete'],
])

/**
 * The envelope of CNCF Distribution's notifications. `undefined` for what that format cannot say: it knows
 * pushes and deletions. A tag that a client sets is a push; one that an upstream moves is nothing.
 */
export function distributionEvents(notice: Notice, { instance }: Sender): Envelope | undefined {
  const action = ACTIONS.get(notice.type)
  if (action === undefined) return undefined
  const { tags } = notice.data
  // Distribution reports one event per tag.
  const names: readonly unknown[] = Array.isArray(tags) && tags.length > 0 ? tags : [notice.data['tag']]
  const events = names.map((tag, place) => ({
    id: place === 0 ? notice.id : `${notice.id}-${place}`,
    timestamp: new Date(notice.atMs).toISOString(),
    action,
    target: targetOf(notice, tag),
    request: { id: notice.id },
    actor: { name: notice.data['by'] },
    source: { instanceID: instance },
  }))
  return {
    contentType: 'application/vnd.docker.distribution.events.v2+json',
    body: JSON.stringify({ events }),
  }
}

function targetOf({ subject, data }: Notice, tag: unknown): object {
  const { digest, mediaType, sizeBytes } = data
  return { mediaType, digest, size: sizeBytes, length: sizeBytes, repository: subject, tag }
}
