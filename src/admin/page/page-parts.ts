import type { IncomingMessage } from 'node:http'
import type { Events } from '../../observe/events.ts'
import type { AdminRoutesParts } from '../parts.ts'
import type { Assets } from './assets.ts'
import type { Html } from './html.ts'
import type { PageSession } from './page-sessions.ts'
import type { Snapshots, SnapshotsParts } from './snapshot.ts'
import type { WarmJobs } from './warm-jobs.ts'

/** A setting in force, with the place that it comes from, in words. */
interface ShownSetting {
  readonly name: string
  readonly value: string
  readonly origin: string
}

/** Files to copy to the machine of a client. */
export interface Snippet {
  readonly client: string
  readonly files: readonly { readonly path: string; readonly text: string }[]
  readonly notes: readonly string[]
}

export interface AdminPageParts extends AdminRoutesParts {
  readonly isSocket: boolean
  /** The token of administrators as it is now. */
  currentToken(): Promise<{ reveal(): string } | undefined>
  readonly events: Pick<Events, 'audited' | 'warned'>
  readonly trafficRecord: SnapshotsParts['trafficRecord']
  /** The name of this process in `CDN-Loop`. */
  readonly instance: string
  /** The settings in force; empty if they are not known. */
  readonly settings: readonly ShownSetting[]
  /** The configuration of each client for a mirror at this address. Throws REQUEST_INVALID for no address. */
  snippets(mirror: string): Promise<readonly Snippet[]>
  /** The addresses at which clients are served. */
  readonly served: () => readonly { readonly text: string; readonly isTls: boolean }[]
}

/**
 * The reader of a page. `numbers`: has not logged in, and sees what `/metrics` tells everybody. `names`: sees
 * all, because no token is needed to read. `admin`: has logged in and may act.
 */
export interface Viewer {
  readonly sees: 'numbers' | 'names' | 'admin'
  readonly who: string
  readonly row: string | undefined
  readonly session: PageSession | undefined
  /** True if a login takes credentials. */
  readonly needsToken: boolean
}

/** What a view is made from. */
export interface ViewContext {
  readonly parts: AdminPageParts
  readonly assets: Assets
  readonly snapshots: Pick<Snapshots, 'take'>
  readonly jobs: WarmJobs
  readonly viewer: Viewer
  readonly query: URLSearchParams
  readonly request: Pick<IncomingMessage, 'headers' | 'socket'>
}

/** A page without its frame. */
export interface View {
  readonly title: string
  readonly body: Html
  /** True if parts of it are replaced as the feed brings them. */
  readonly isLive?: boolean
}
