import type { Access, AccessRequest } from '../access/access.ts'
import type { Events } from '../observe/events.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { Reply } from './reply.ts'
import type { PushRoute } from './route.ts'

/**
 * Notes in the audit log that a manifest was pushed, or that something was deleted. A blob is noted with the
 * manifest that names it, and the access log has each of its requests.
 */
export function auditedChange(
  { access, events }: { readonly access: Access; readonly events: Pick<Events, 'audited'> },
  asking: AccessRequest,
  route: PushRoute,
  reply: Reply,
): Reply {
  const change = changeOf(route, reply)
  if (change === undefined) return reply
  const { place, identity, client } = asking
  const { action, kind, part } = change
  const what = `${kind} ${place.namespace}/${place.repository}${part}`
  events.audited({ action, who: identity.name, what, from: client, row: access.rowFor(asking) })
  return reply
}

interface Change {
  readonly action: 'push' | 'delete'
  readonly kind: 'tag' | 'manifest' | 'blob'
  /** What follows the name of the repository. */
  readonly part: string
}

function changeOf(route: PushRoute, { headers }: Reply): Change | undefined {
  switch (route.kind) {
    case 'push-manifest': {
      const { reference, tags } = route
      const named = [...(reference.kind === 'tag' ? [reference.tag] : []), ...tags]
      const part = `${named.length === 0 ? '' : `:${named.join(',')}`}@${headers['Docker-Content-Digest']}`
      return { action: 'push', kind: 'manifest', part }
    }
    case 'delete-manifest': {
      const { reference } = route
      const kind = reference.kind === 'tag' ? 'tag' : 'manifest'
      return { action: 'delete', kind, part: partOf(reference) }
    }
    case 'delete-blob':
      return { action: 'delete', kind: 'blob', part: `@${route.digest}` }
    case 'begin-upload':
    case 'upload-state':
    case 'append-upload':
    case 'finish-upload':
    case 'cancel-upload':
      return undefined
    default:
      return route satisfies never
  }
}

function partOf(reference: Reference): string {
  return `${reference.kind === 'digest' ? '@' : ':'}${referenceText(reference)}`
}
