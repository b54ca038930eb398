import type { Notifications } from '../observe/notifications/notifications.ts'
import { OciError } from '../oci/error.ts'
import type { EventList } from './contract.ts'
import { cursorOf, EVENT_CURSOR, limitOf, timeIn } from './query.ts'
import { isoOf } from './times.ts'

/** Lists the newest notifications first, and the endpoints. */
export async function listEvents(notifications: Notifications, query: URLSearchParams): Promise<EventList> {
  const after = cursorOf(query, EVENT_CURSOR)
  const limit = limitOf(query)
  const before = after === undefined ? Number.MAX_SAFE_INTEGER : Number(after)
  const listed = await notifications.list(before, limit)
  const events = listed.map(({ notice: { id, atMs, type, subject, data }, deliveries }) => ({
    id,
    at: isoOf(atMs),
    type: `entrepot.${type}`,
    subject,
    data,
    deliveries,
  }))
  const last = listed.length === limit ? listed.at(-1) : undefined
  const endpoints = await notifications.status()
  return { events, endpoints, next: last === undefined ? undefined : String(last.seq) }
}

/** Sends notifications again: all of an endpoint, one by its id, or those since a time. */
export async function replayEvents(
  notifications: Notifications,
  query: URLSearchParams,
): Promise<{ readonly deliveries: number }> {
  const endpoint = query.get('endpoint') ?? undefined
  const known = (await notifications.status()).map(status => status.endpoint)
  if (endpoint !== undefined && !known.includes(endpoint))
    throw new OciError('REQUEST_INVALID', `no endpoint is called ${JSON.stringify(endpoint.slice(0, 64))}`)
  const id = query.get('id') ?? undefined
  return { deliveries: await notifications.replay({ endpoint, id, sinceMs: timeIn(query, 'since', 0) }) }
}
