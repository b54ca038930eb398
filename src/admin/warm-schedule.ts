import type { Clock } from '../lib/clock.ts'
import type { Mirror } from '../mirror/mirror.ts'
import type { Directory, Source } from '../mirror/sources.ts'
import type { Events } from '../observe/events.ts'
import { OciError, UpstreamError } from '../oci/error.ts'
import { parseTag, type Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { Platform } from '../oci/platform.ts'
import { chooseTags, type TagChoice } from '../oci/tag-choice.ts'
import type { TagsPageRequest } from '../oci/tags-page.ts'
import type { WarmingReport } from './contract.ts'
import { imageNamed } from './query.ts'
import { isoOf } from './times.ts'
import { requireUpstream, warmImage } from './warm.ts'

/** Images to pull into the cache at intervals. */
export interface WarmPlan extends TagChoice {
  /** Name of a repository, as clients write it. */
  readonly image: string
  readonly platforms: readonly Platform[]
  readonly intervalMs: number
}

export interface WarmScheduleParts {
  readonly mirror: Mirror
  readonly directory: () => Directory
  /** True for names that are hosted here. */
  readonly isClaimed: (place: Place) => boolean
  /** Plans in force. */
  readonly plans: () => readonly WarmPlan[]
  readonly clock: Clock
  readonly events: Pick<Events, 'warned'>
  /** Why the store takes nothing at present. */
  readonly storeTrouble: () => string | undefined
}

/** Most tags of one repository that are looked at. */
const TAGS_MAX = 10_000
const PAGE = 1000

interface Progress {
  /** When it is due, by the steady clock. */
  dueMs: number
  isRunning: boolean
  lastAtMs: number | undefined
  images: number
  doneImages: number
  failedImages: number
  message: string | undefined
}

/**
 * Pulls images into the cache at intervals, one plan after another, so that clients find them there. A plan
 * runs for the first time when it is new. A registry that allows few more pulls is left to its clients.
 */
export class WarmSchedule implements AsyncDisposable {
  readonly #parts: WarmScheduleParts
  readonly #progress = new Map<string, Progress>()
  readonly #lifetime = new AbortController()
  #woken = Promise.withResolvers<void>()
  #running: Promise<void> | undefined

  constructor(parts: WarmScheduleParts) {
    this.#parts = parts
  }

  /** Starts the plans that are in force now, and later those that replace them. */
  start(): void {
    this.#running ??= this.#run()
  }

  /** The plans have been replaced. Those that stay the same keep their time. */
  changed(): void {
    this.#woken.resolve()
  }

  get report(): readonly WarmingReport[] {
    const { plans, clock } = this.#parts
    return plans().map(plan => {
      const progress = this.#progress.get(keyOf(plan))
      const dueMs = progress === undefined ? 0 : Math.max(0, progress.dueMs - clock.monotonicMs())
      return {
        image: plan.image,
        tags: describe(plan),
        isRunning: progress?.isRunning ?? false,
        lastAt: progress?.lastAtMs === undefined ? undefined : isoOf(progress.lastAtMs),
        nextAt: isoOf(clock.wallMs() + dueMs),
        images: progress?.images ?? 0,
        doneImages: progress?.doneImages ?? 0,
        failedImages: progress?.failedImages ?? 0,
        message: progress?.message,
      }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the mirror is shutting down'))
    this.#woken.resolve()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#lifetime
    while (!signal.aborted) {
      const { clock } = this.#parts
      const nowMs = clock.monotonicMs()
      this.#forgetOthers()
      const plans = this.#parts.plans().map(plan => ({ plan, progress: this.#progressOf(plan, nowMs) }))
      const [next] = plans.toSorted((one, other) => one.progress.dueMs - other.progress.dueMs)
      if (next === undefined) await this.#woken.promise
      else if (next.progress.dueMs > nowMs) await this.#sleep(next.progress.dueMs - nowMs)
      else await this.#runPlan(next.plan, next.progress)
      this.#woken = Promise.withResolvers<void>()
    }
  }

  /** Forgets plans that are not in force any more. */
  #forgetOthers(): void {
    const keys = new Set(this.#parts.plans().map(keyOf))
    for (const key of this.#progress.keys()) if (!keys.has(key)) this.#progress.delete(key)
  }

  async #sleep(forMs: number): Promise<void> {
    const over = new AbortController()
    const slept = this.#parts.clock.delay(forMs, over.signal).catch(() => undefined)
    await Promise.race([slept, this.#woken.promise])
    over.abort()
    await slept
  }

  #progressOf(plan: WarmPlan, nowMs: number): Progress {
    const known = this.#progress.get(keyOf(plan))
    if (known !== undefined) return known
    const progress = {
      dueMs: nowMs,
      isRunning: false,
      lastAtMs: undefined,
      images: 0,
      doneImages: 0,
      failedImages: 0,
      message: undefined,
    }
    this.#progress.set(keyOf(plan), progress)
    return progress
  }

  async #runPlan(plan: WarmPlan, progress: Progress): Promise<void> {
    const { clock, events } = this.#parts
    Object.assign(progress, {
      isRunning: true,
      images: 0,
      doneImages: 0,
      failedImages: 0,
      message: undefined,
    })
    progress.dueMs = clock.monotonicMs() + plan.intervalMs
    try {
      await this.#warmAll(plan, progress)
    } catch (error) {
      if (this.#lifetime.signal.aborted) return
      progress.failedImages += 1
      progress.message = messageOf(error)
      if (!isExpected(error)) events.warned('scheduled warming failed', { err: error })
    } finally {
      progress.isRunning = false
      progress.lastAtMs = clock.wallMs()
    }
    const { failedImages, message } = progress
    if (failedImages > 0)
      events.warned('scheduled warming did not cache everything', {
        image: plan.image,
        failed: failedImages,
        why: message,
      })
  }

  async #warmAll(plan: WarmPlan, progress: Progress): Promise<void> {
    const { signal } = this.#lifetime
    const { directory } = this.#parts
    const { source } = await imageNamed({ directory, desk: undefined }, plan.image)
    requireUpstream(this.#parts.isClaimed, source)
    const tags = await this.#tagsOf(plan, source)
    progress.images = tags.length
    if (tags.length === 0) progress.message = 'no tag matches'
    for (const tag of tags) {
      signal.throwIfAborted()
      if (source.registry.isRunningLow()) {
        progress.message = 'stopped early: the registry allows few more pulls'
        return
      }
      const failure = await this.#warmOne(plan, source, tag)
      if (failure === undefined) progress.doneImages += 1
      else {
        progress.failedImages += 1
        progress.message = `${tag}: ${failure}`
      }
    }
  }

  /** Only patterns and versions need the list of tags. */
  async #tagsOf(plan: WarmPlan, source: Source): Promise<readonly Tag[]> {
    const isPlain =
      plan.semver === undefined && plan.newest === undefined && !plan.patterns.join().includes('*')
    const all = isPlain ? plan.patterns : await this.#listTags(source)
    return chooseTags(all, plan).flatMap(tag => parseTag(tag) ?? [])
  }

  async #listTags(source: Source): Promise<readonly string[]> {
    const all: string[] = []
    let page: TagsPageRequest | undefined = { n: PAGE, last: undefined }
    while (page !== undefined && all.length < TAGS_MAX) {
      const { value } = await this.#parts.mirror.listTags(source, page)
      all.push(...value.tags)
      page = value.tags.length === 0 ? undefined : value.next
    }
    return all
  }

  /** The reason if a part of the image is not cached afterwards. */
  async #warmOne(plan: WarmPlan, source: Source, tag: Tag): Promise<string | undefined> {
    const { mirror, storeTrouble } = this.#parts
    const request = {
      source,
      reference: { kind: 'tag', tag },
      platforms: plan.platforms,
      storeTrouble,
    } as const
    let failure: string | undefined
    try {
      for await (const event of warmImage(mirror, request, this.#lifetime.signal)) {
        if (event.event === 'layer' && event.state === 'failed') failure ??= event.message ?? 'a layer failed'
      }
    } catch (error) {
      this.#lifetime.signal.throwIfAborted()
      if (!isExpected(error)) throw error
      failure = messageOf(error)
    }
    return failure
  }
}

function keyOf(plan: WarmPlan): string {
  return JSON.stringify(plan)
}

function describe({ patterns, semver, newest }: TagChoice): string {
  const parts = [
    ...patterns,
    ...(semver === undefined ? [] : [semver]),
    ...(newest === undefined ? [] : [`newest ${newest}`]),
  ]
  return parts.join(', ')
}

function isExpected(error: unknown): boolean {
  return error instanceof OciError || error instanceof UpstreamError
}

function messageOf(error: unknown): string {
  return isExpected(error) && error instanceof Error ? error.message : 'internal error, see the log'
}
