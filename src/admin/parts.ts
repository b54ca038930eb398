import type { LatestRun } from '../content/jobs/runs.ts'
import type { Claimed } from '../hosted/claimed.ts'
import type { Mirror } from '../mirror/mirror.ts'
import type { DamagedRecord } from '../observe/events.ts'
import type { Health } from '../observe/health.ts'
import type { Notifications } from '../observe/notifications/notifications.ts'
import type { RecentPulls } from '../observe/recent-pulls.ts'
import type { Traffic } from '../observe/traffic.ts'
import type { Desk } from '../space/desk.ts'
import type { ClientReport, CopiesReport, VerifyLine } from './contract.ts'
import type { ReplicasReport } from './replicas-report.ts'
import type { RobotTokenParts } from './robot-tokens.ts'
import type { HostingDesk } from './tags.ts'
import type { WarmSchedule } from './warm-schedule.ts'

export interface AdminRoutesParts extends RobotTokenParts {
  readonly mirror: Mirror
  readonly claimed: Pick<Claimed, 'verdictOn' | 'isMirrored'>
  /** `undefined` if the store has no index. */
  readonly desk: Desk | undefined
  readonly recentPulls: RecentPulls
  /** The clients that pulled recently, the latest first. */
  recentClients(): Promise<readonly ClientReport[]>
  /** Verifies all stored objects and reports its progress. */
  verify(signal: AbortSignal): AsyncIterable<VerifyLine>
  readonly health: Health
  readonly warming: WarmSchedule
  /** Traffic of all threads since the start. */
  traffic(): Promise<Traffic>
  /** The latest run of each job that is done once for all processes on the store. */
  jobs(): Promise<readonly LatestRun[]>
  /** Records of the mirror itself found damaged since its start. */
  damagedRecords(): readonly DamagedRecord[]
  /** Why the store takes nothing at present. */
  storeTrouble(): string | undefined
  /** The local copies of a bucket; `undefined` if there are none. */
  copies(): CopiesReport | undefined
  readonly notifications: Notifications
  /** The replicas of this mirror; `undefined` if it works alone. */
  replicas(): ReplicasReport | undefined
  readonly hosting: HostingDesk
  readonly about: { readonly version: string; readonly startedAtMs: number; readonly store: string }
}
