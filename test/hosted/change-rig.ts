import { TagHistory } from '../../src/content/tag-history.ts'
import type { ActWitness } from '../../src/hosted/acts.ts'
import { ChangeWitness } from '../../src/hosted/change-witness.ts'
import { Hosted } from '../../src/hosted/hosted.ts'
import { Shelf } from '../../src/hosted/shelf.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { Endpoint } from '../../src/observe/notifications/courier.ts'
import { Notifications } from '../../src/observe/notifications/notifications.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { OCI_INDEX } from '../../src/oci/media-type.ts'
import { parseRepositoryName, parseTag } from '../../src/oci/name.ts'
import { parseNamespace } from '../../src/oci/namespace.ts'
import { NOTICE_TYPES } from '../../src/oci/notice-type.ts'
import { openFilesystemStore } from '../../src/storage/filesystem/store.ts'
import type { S3Address } from '../../src/storage/s3/connection.ts'
import { openS3Store } from '../../src/storage/s3/store.ts'
import type { Store } from '../../src/storage/store.ts'
import { defined } from '../storage/contract.ts'
import { seenS3Events } from '../storage/s3/rooms.ts'
import { seeEvents } from '../support/seen-events.ts'

/** Where a process keeps hosted repositories and its outbox. */
export interface ChangePlace {
  /** Directory of the outbox, and of the store unless that is a bucket. */
  readonly directory: string
  readonly bucket?: S3Address
}

/** How a process changes a repository. */
export type ChangeKind = 'push' | 'untag' | 'delete'

const PLACE = {
  namespace: defined(parseNamespace('registry.example.com')),
  repository: defined(parseRepositoryName('team/app')),
}
const TAG = defined(parseTag('latest'))
const BYTES = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] }))
const ASKED = { ...PLACE, trail: [], actor: 'ci', mayPush: true }

export interface ChangeBench extends AsyncDisposable {
  /** Number of notices that the endpoint has not got. */
  readonly undelivered: () => Promise<number>
  /** Pushes an index with a tag, or removes its tag or the index with its tag. */
  readonly change: (kind: ChangeKind) => Promise<void>
}

export interface ChangeOptions {
  readonly endpoint?: Partial<Endpoint>
  /** Wraps the store. */
  readonly over?: (store: Store) => Store
  /** Wraps the witness that reports the changes. */
  readonly through?: (witness: ActWitness) => ActWitness
}

/** Hosted repositories whose changes are told an endpoint, as the daemon puts them together. */
export async function openChanges(
  { directory, bucket }: ChangePlace,
  { endpoint = {}, over = store => store, through = witness => witness }: ChangeOptions,
): Promise<ChangeBench> {
  await using undo = new AsyncDisposableStack()
  const clock = systemClock
  const { events: quiet } = seeEvents()
  const store = over(
    undo.use(
      bucket === undefined
        ? await openFilesystemStore({ root: directory, events: quiet })
        : await openS3Store({ address: bucket, spoolDirectory: directory, events: seenS3Events() }),
    ),
  )
  const notifications = undo.use(new Notifications())
  const events = seeEvents([notifications]).events
  const told: Endpoint = {
    name: 'ci',
    format: 'cloudevents',
    key: undefined,
    types: new Set(NOTICE_TYPES),
    wants: () => true,
    post: async () => await Promise.reject(new Error('nobody is there')),
    ...endpoint,
  }
  const sender = { source: '/entrepot/test', instance: 'test' }
  await notifications.start({ directory, sender, clock, events }, [told])
  const shelf = new Shelf(store, events)
  const history = new TagHistory({ store, clock, events })
  const changes = new ChangeWitness({ events, history, shelf, notifications })
  undo.use(notifications.judgeBy(async notice => await changes.happened(notice)))
  const settled = async (): Promise<void> => await notifications.settled()
  const parties = { rules: [], witnesses: [through(changes)], settled }
  const hosted = undo.use(new Hosted({ store, events, clock, parties }))
  const reference = { kind: 'tag', tag: TAG } as const
  const actions: Readonly<Record<ChangeKind, () => Promise<unknown>>> = {
    push: async () =>
      await hosted.pushManifest(ASKED, { reference, tags: [], bytes: BYTES, contentType: OCI_INDEX }),
    untag: async () => await hosted.deleteManifest(ASKED, reference),
    delete: async () => await hosted.deleteManifest(ASKED, { kind: 'digest', digest: digestOf(BYTES) }),
  }
  const owned = undo.move()
  return {
    undelivered: async () => (await notifications.status())[0]?.pending ?? Infinity,
    change: async kind => void (await actions[kind]()),
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  }
}
