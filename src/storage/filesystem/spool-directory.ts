import { randomUUID } from 'node:crypto'
import { type FileHandle, open, readdir, readFile, rename, rm, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../../lib/clock.ts'
import { hasCode, ifThere } from '../../lib/system-error.ts'
import type { Events } from '../../observe/events.ts'
import type { Digest } from '../../oci/digest.ts'
import type { UploadId } from '../../oci/upload-id.ts'
import { leftoverFileName } from '../layout.ts'
import { makeDirectory, makeDurableDirectory } from './directories.ts'
import { createRegular, openRegular, writeFully } from './regular-file.ts'
import { DiskSpool, type DiskSpoolParts } from './spool-file.ts'
import { formatOwner, identifySelf, type Owner } from './spool-owner.ts'
import { KEPT_DIRECTORY, leaveSpool, OWNER_FILE, sweepSpools, UPLOADS_DIRECTORY } from './spool-sweep.ts'

/** Longest time of one sweep; the next sweep does the rest. */
const SWEEP_MAX_MS = 1_000
const SWEEP_EVERY_MS = 10 * 60_000
const PROBE_BYTES = 4_096
/** Boot of a system that does not identify its boots. */
const UNKNOWN_BOOT = 'unknown'
const STAY = async (): Promise<void> => await Promise.resolve()

export interface SpoolDirectoryOptions {
  /** Shared by all processes on one store. Must be on the same file system as the adopted content. */
  readonly path: string
  readonly events: Pick<Events, 'storageFailed' | 'swept'>
  readonly clock: Pick<Clock, 'monotonicMs'>
}

/**
 * Scratch space that several processes may share. Each process has its own directory, `<random>/`, with a
 * file that identifies it, and a sweep spares the directories of living processes. Partial fills that can be
 * resumed are in `kept/<boot>/<digest>` or `<digest>.<claimant>`, which no process owns. Taking one is a
 * single rename, so exactly one of several claimants gets it. Uploads are in `uploads/<boot>/<id>`, for the
 * process that is asked for them next. Nothing here is synced, except uploads when their owner asks for it.
 */
export class SpoolDirectory implements AsyncDisposable {
  readonly #options: SpoolDirectoryOptions
  readonly #self: Owner | undefined
  readonly #name = randomUUID()
  readonly #own: string
  readonly #kept: string | undefined
  readonly #uploads: string
  readonly #boot: string
  readonly #timer: NodeJS.Timeout
  #claim: Promise<void> | undefined
  #sweeping: Promise<void> | undefined
  #isClosed = false

  private constructor(options: SpoolDirectoryOptions, self: Owner | undefined) {
    this.#options = options
    this.#self = self
    this.#own = join(options.path, this.#name)
    this.#kept = self === undefined ? undefined : join(options.path, KEPT_DIRECTORY, self.bootId)
    this.#uploads = join(options.path, UPLOADS_DIRECTORY)
    this.#boot = self?.bootId ?? UNKNOWN_BOOT
    this.#timer = setInterval(() => void this.sweep(), SWEEP_EVERY_MS).unref()
  }

  /** Opens the directory and sweeps it. If it is not writable, each use tries again. */
  static async open(options: SpoolDirectoryOptions): Promise<SpoolDirectory> {
    const spools = new SpoolDirectory(options, await identifySelf())
    await spools.sweep()
    return spools
  }

  /**
   * Opens a spool for a digest: a leftover of an earlier fill by the same claimant if one exists, otherwise
   * an empty file.
   */
  async create(digest: Digest, claimant?: string): Promise<DiskSpool> {
    const leftoverName = leftoverFileName(digest, claimant)
    const name = `${leftoverName}.${randomUUID()}`
    // Both at once, because a client waits for the file and hardly ever is there a leftover.
    const creating = this.#create(name)
    creating.catch(() => undefined)
    const leftover = await this.#takeLeftover(leftoverName, `${leftoverName}.${randomUUID()}`)
    const made = async (): Promise<DiskSpool> => {
      const path = join(this.#own, name)
      return this.#spool({ handle: await creating, path, sizeBytes: 0 }, leftoverName)
    }
    if (leftover === undefined) return await made()
    await made().then(
      async unused => await unused.remove(),
      () => undefined,
    )
    return leftover
  }

  /**
   * Creates the file of an upload; see {@link Store.createUpload}. It is in a directory of this boot: after a
   * power cut a file may have its length but not its bytes.
   */
  async createUpload(id: UploadId): Promise<DiskSpool> {
    if (this.#isClosed) throw new Error('the store is closed')
    const path = join(this.#uploads, this.#boot, id)
    const create = async (): Promise<FileHandle> => await createRegular(path)
    const handle = await create().catch(async (error: unknown) => {
      if (!hasCode(error, 'ENOENT')) throw error
      await makeDurableDirectory(dirname(path))
      return await create()
    })
    return this.#upload({ handle, path, sizeBytes: 0 })
  }

  /** Opens the file of an upload again; see {@link Store.openUpload}. */
  async openUpload(id: UploadId, syncedBytes: number): Promise<DiskSpool | undefined> {
    for (const boot of new Set([this.#boot, ...((await ifThere(readdir(this.#uploads))) ?? [])])) {
      const path = join(this.#uploads, boot, id)
      const file = await openRegular(path, 'write')
      if (file === undefined) continue
      const spool = this.#upload({ handle: file.handle, path, sizeBytes: Number(file.stats.size) })
      if (boot !== this.#boot || boot === UNKNOWN_BOOT)
        await spool.truncate(Math.min(syncedBytes, spool.sizeBytes))
      return spool
    }
    return undefined
  }

  #upload(parts: Pick<DiskSpoolParts, 'handle' | 'path' | 'sizeBytes'>): DiskSpool {
    // It stays where it is, so the next process finds it under its id.
    const spool = new DiskSpool({ ...parts, leave: STAY, events: this.#options.events })
    spool.keep()
    return spool
  }

  /**
   * Writes bytes into a new file and has `move` take it from its path. No file is left here, even on failure.
   */
  async withTemporary<T>(
    bytes: Uint8Array,
    options: { readonly isDurable: boolean },
    move: (path: string) => Promise<T>,
  ): Promise<T> {
    const name = `temporary.${randomUUID()}`
    const path = join(this.#own, name)
    const handle = await this.#create(name)
    try {
      try {
        await writeFully(handle, [bytes], 0)
        if (options.isDurable) await handle.datasync()
      } finally {
        await handle.close()
      }
      return await move(path)
    } catch (error) {
      await this.#remove(path)
      throw error
    }
  }

  /** This process's own directory, for files that another writer of it makes; it is there. */
  async scratch(): Promise<string> {
    if (this.#isClosed) throw new Error('the store is closed')
    await this.#ensure()
    return this.#own
  }

  /**
   * Writes, reads and removes a small file; throws on failure. It writes a whole block, so that a full disk
   * is noticed.
   */
  async probe(): Promise<void> {
    const block = Buffer.alloc(PROBE_BYTES, 'probe\n')
    await this.withTemporary(block, { isDurable: false }, async path => {
      if (!block.equals(await readFile(path))) throw new Error(`${path} does not read back as written`)
      await unlink(path)
    })
  }

  /** True if no other process has a directory here. That of a dead one counts until it is swept. */
  async isAlone(): Promise<boolean> {
    const shared: readonly string[] = [KEPT_DIRECTORY, UPLOADS_DIRECTORY]
    const names = await readdir(this.#options.path)
    return names.every(name => name === this.#name || shared.includes(name))
  }

  /** Marks this process as alive and removes the files of dead ones. Never throws; joins a running sweep. */
  async sweep(): Promise<void> {
    if (this.#isClosed) return
    this.#sweeping ??= this.#sweepOnce().finally(() => {
      this.#sweeping = undefined
    })
    await this.#sweeping
  }

  async #sweepOnce(): Promise<void> {
    const { path, events, clock } = this.#options
    const deadlineMs = clock.monotonicMs() + SWEEP_MAX_MS
    try {
      const swept = await sweepSpools({
        path,
        own: this.#name,
        self: this.#self,
        fileTimeMs: await this.now(),
        isOver: () => this.#isClosed || clock.monotonicMs() > deadlineMs,
        onError: error => events.storageFailed('sweep', error),
      })
      events.swept(swept)
    } catch (error) {
      events.storageFailed('sweep', error)
    }
  }

  /** Rewrites the owner file and returns its mtime, which is the current time of the file system. */
  async now(): Promise<number> {
    await using handle = await this.#inOwn(() => open(join(this.#own, OWNER_FILE), 'r+'))
    await handle.write(formatOwner(this.#self), 0, 'latin1')
    return (await handle.stat()).mtimeMs
  }

  async #takeLeftover(leftoverName: string, name: string): Promise<DiskSpool | undefined> {
    if (this.#kept === undefined || this.#isClosed) return undefined
    const path = join(this.#own, name)
    try {
      await rename(join(this.#kept, leftoverName), path)
    } catch {
      // Usually there is no leftover. Any other failure will show when the new file is created.
      return undefined
    }
    try {
      const file = await openRegular(path, 'write')
      if (file === undefined) return undefined
      return this.#spool({ handle: file.handle, path, sizeBytes: Number(file.stats.size) }, leftoverName)
    } catch (error) {
      this.#options.events.storageFailed('spool', error)
      await this.#remove(path)
      return undefined
    }
  }

  #spool(
    parts: { readonly handle: FileHandle; readonly path: string; readonly sizeBytes: number },
    leftoverName: string,
  ): DiskSpool {
    const kept = this.#kept
    const leave =
      kept === undefined
        ? undefined
        : (path: string): Promise<void> => leaveSpool(path, { kept, leftoverName })
    return new DiskSpool({ ...parts, leave, events: this.#options.events })
  }

  async #create(name: string): Promise<FileHandle> {
    if (this.#isClosed) throw new Error('the store is closed')
    return this.#inOwn(() => createRegular(join(this.#own, name)))
  }

  /**
   * Runs an action in this process's own directory, and repeats it if the directory has been removed
   * meanwhile.
   */
  async #inOwn<T>(action: () => Promise<T>): Promise<T> {
    await this.#ensure()
    try {
      return await action()
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error
      this.#claim = undefined
      await this.#ensure()
      return action()
    }
  }

  /** Creates this process's directory, once for all concurrent callers; a failure is not remembered. */
  async #ensure(): Promise<void> {
    this.#claim ??= this.#makeOwn()
    try {
      await this.#claim
    } catch (error) {
      this.#claim = undefined
      throw error
    }
  }

  async #makeOwn(): Promise<void> {
    await makeDirectory(this.#own)
    await using handle = await open(join(this.#own, OWNER_FILE), 'w', 0o600)
    await handle.write(formatOwner(this.#self), 0, 'latin1')
  }

  async #remove(path: string): Promise<void> {
    try {
      await rm(path, { recursive: true, force: true })
    } catch (error) {
      this.#options.events.storageFailed('spool', error)
    }
  }

  /**
   * Removes this process's directory, unless it still has an open spool. A later sweep then removes it once
   * this process has ended.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#timer)
    await this.#sweeping
    try {
      const names = await readdir(this.#own)
      if (names.some(name => name !== OWNER_FILE)) return
      await rm(join(this.#own, OWNER_FILE), { force: true })
      await rmdir(this.#own)
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) this.#options.events.storageFailed('sweep', error)
    }
  }
}
