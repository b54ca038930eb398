import { createHash } from 'node:crypto'
import { type FSWatcher, realpathSync, statSync, watch } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../../lib/clock.ts'
import { hasCode } from '../../lib/system-error.ts'
import { type CredentialsByNamespace, type FileConfig, loadUpstreams } from './upstreams.ts'

/** Callbacks of a {@link FileWatch}. */
export interface WatchEvents {
  /** The file holds other bytes than before. Not called while the file is absent. */
  readonly changed: () => void
  /** Changes may go unseen from now on. */
  readonly failed: (error: unknown) => void
}

const SETTLE_MS = 200
/** Settle times to wait before a replaced directory is opened again. */
const RETRY_SETTLES = 5
/** Settle times after which a directory is read although it is not quiet: others may always write there. */
const BUSY_SETTLES = 5

interface WatchedDirectory {
  readonly watcher: FSWatcher
  /** Device and inode, which differ after the directory was replaced. */
  readonly identity: string
}

/**
 * Watches the content of a file until it is disposed of. Editors and Kubernetes replace files instead of
 * writing them: they rename over the name, or over the `..data` link in its path; mounts and deployments
 * replace whole directories. So it watches the directories of the name and of the link's target, by name and
 * not by inode. After an event it waits until the directory is quiet, for a second at most, and then
 * reads the content: only different bytes are a change. {@link start} reads it for the first time.
 */
export class FileWatch implements Disposable {
  readonly #path: string
  readonly #events: WatchEvents
  readonly #settleMs: number
  readonly #watchers = new Map<string, WatchedDirectory>()
  #isStarted = false
  #timer: NodeJS.Timeout | undefined
  /** When the first event came that no read has followed; `undefined` if there is none. */
  #eventAtMs: number | undefined
  #seen: string | undefined
  #isDisposed = false
  /** Serializes the reads, so that an older one cannot overtake a newer one. */
  #looking: Promise<void> = Promise.resolve()

  constructor(path: string, events: WatchEvents, settleMs = SETTLE_MS) {
    this.#path = path
    this.#events = events
    this.#settleMs = settleMs
  }

  /** Begins to watch; resolves once no later change can be missed. */
  async start(): Promise<void> {
    this.#watchDirectories()
    this.#isStarted = true
    this.#seen = await this.#fingerprint()
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true
    clearTimeout(this.#timer)
    for (const { watcher } of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }

  /** Watches the directory of the name, and that of the file to which its links lead now. */
  #watchDirectories(): void {
    const wanted = new Set([dirname(this.#path), ...this.#target()])
    for (const [directory, { watcher, identity }] of this.#watchers) {
      if (wanted.has(directory) && identityOf(directory) === identity) continue
      watcher.close()
      this.#watchers.delete(directory)
    }
    for (const directory of wanted) this.#watchDirectory(directory)
  }

  #target(): string[] {
    try {
      return [dirname(realpathSync(this.#path))]
    } catch {
      return []
    }
  }

  #watchDirectory(directory: string): void {
    if (this.#watchers.has(directory)) return
    const drop = (error: unknown): void => {
      this.#watchers.get(directory)?.watcher.close()
      this.#watchers.delete(directory)
      if (this.#isDisposed) return
      // The directory existed before, so it is being replaced.
      if (this.#isStarted && hasCode(error, 'ENOENT')) this.#lookSoon(RETRY_SETTLES * this.#settleMs)
      else this.#events.failed(error)
    }
    try {
      const identity = identityOf(directory)
      const watcher = watch(directory, { persistent: false }, () => {
        this.#lookSoon()
      })
      watcher.on('error', drop)
      this.#watchers.set(directory, { watcher, identity })
    } catch (error) {
      drop(error)
    }
  }

  #lookSoon(delayMs = this.#settleMs): void {
    if (this.#isDisposed) return
    clearTimeout(this.#timer)
    const nowMs = performance.now()
    this.#eventAtMs ??= nowMs
    const leftMs = this.#eventAtMs + BUSY_SETTLES * this.#settleMs - nowMs
    this.#timer = setTimeout(
      () => {
        this.#eventAtMs = undefined
        this.#looking = this.#looking.then(() => this.#look())
      },
      Math.max(0, Math.min(delayMs, leftMs)),
    )
    this.#timer.unref()
  }

  /** Watches before it reads, so that a change between the two causes another read. */
  async #look(): Promise<void> {
    if (this.#isDisposed) return
    this.#watchDirectories()
    const seen = await this.#fingerprint()
    if (this.#isDisposed || seen === undefined || seen === this.#seen) return
    this.#seen = seen
    this.#events.changed()
  }

  /** `undefined` while the file is absent or cannot be read; a reload would fail too. */
  async #fingerprint(): Promise<string | undefined> {
    try {
      return createHash('sha256')
        .update(await readFile(this.#path))
        .digest('hex')
    } catch {
      return undefined
    }
  }
}

/** Empty for a directory that does not exist. */
function identityOf(directory: string): string {
  try {
    const { dev, ino } = statSync(directory)
    return `${dev}:${ino}`
  } catch {
    return ''
  }
}

/** A reload of the upstream file while the daemon runs. */
export interface UpstreamReload {
  readonly file: string
  readonly credentials: CredentialsByNamespace
  /** Number of upstreams that are in force. */
  readonly inForce: number
  /** Number of rules that are in force. */
  readonly rulesInForce: number
}

/** A file that was modified more recently may not be complete. */
const FRESH_MS = 1000
/** Time that a list must stay empty before it replaces one with entries. */
const EMPTY_STANDS_MS = 1000
/** Reads of a file that keeps changing, before its current content is used. */
const READINGS_MAX = 25

/**
 * Loads the upstream file once it has come to rest. An editor or a template that truncates the file and then
 * writes it passes through states that are valid and mirror nothing. Throws like {@link loadUpstreams}.
 */
export async function loadSettledUpstreams(
  { file, credentials, inForce, rulesInForce }: UpstreamReload,
  clock: Clock,
): Promise<FileConfig> {
  for (let reading = 1; ; reading += 1) {
    const before = await textOf(file)
    const loaded = await loadUpstreams(file, credentials)
    const { upstreams } = loaded
    const isEmptied =
      (inForce > upstreams.length && upstreams.every(({ namespace }) => credentials.has(namespace))) ||
      // Without rules everybody may pull everything.
      (rulesInForce > 0 && loaded.sections.rules.length === 0)
    const restMs = isEmptied ? EMPTY_STANDS_MS : (await isFresh(file, clock)) ? SETTLE_MS : 0
    if (restMs === 0 || reading === READINGS_MAX) return loaded
    await clock.delay(restMs)
    if ((await textOf(file)) === before) return loaded
  }
}

async function isFresh(file: string, clock: Clock): Promise<boolean> {
  const age = await stat(file).then(
    ({ mtimeMs }) => clock.wallMs() - mtimeMs,
    () => Infinity,
  )
  // After a clock was set back, old files seem to come from the future.
  return Math.abs(age) < FRESH_MS
}

async function textOf(file: string): Promise<string | undefined> {
  return await readFile(file, 'utf8').catch(() => undefined)
}
