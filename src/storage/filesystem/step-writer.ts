import { dirname } from 'node:path'
import { hasCode } from '../../lib/system-error.ts'
import { ThreadClient } from '../../lib/thread-client.ts'
import { contentKey, RECORD_BYTES_MAX, recordKey } from '../layout.ts'
import type { RecordName, StoreWrite, WriteStep } from '../store.ts'
import { passingDirectory } from './passing-directory.ts'
import { DiskSpool } from './spool-file.ts'

/** A file to put in its place. */
export interface FileWrite {
  readonly path: string
  /** Length of the longest directory in the path that this program never removes. */
  readonly lastingLength: number
  /** The whole content; `undefined` if a file with it is at {@link from}. */
  readonly bytes: Uint8Array | undefined
  readonly from: string | undefined
}

/** Files to put in their places, step by step. */
export interface StepTask {
  /** Directory on the same file system for files that are being written. */
  readonly scratch: string
  /** Directory that is durable, above all files. */
  readonly root: string
  readonly steps: readonly (readonly FileWrite[])[]
  /** True if a synced change carries all changes before it. */
  readonly isOrdered: boolean
  /** False if an order is enough. */
  readonly isDurable: boolean
}

/** Calls to the thread that writes. */
export interface StepCalls {
  write(task: StepTask): Promise<void>
  /** Reads whole files; `undefined` for each that is absent. */
  read(paths: readonly string[]): readonly (Uint8Array | undefined)[]
}

export interface StepWriterParts {
  readonly root: string
  /** True if a synced change carries all changes before it. */
  readonly isOrdered: boolean
  /** A directory on the same file system for files that are being written. */
  readonly scratch: () => Promise<string>
}

/** The thread met something in the way, such as a directory that is gone. Nothing is lost by another try. */
export class ObstacleError extends Error {}

/**
 * A thread that reads and writes small files. A push has to do with about fifteen: one call to a thread that
 * makes plain system calls takes a fraction of the processor time of as many calls to Node's pool. Starts
 * with the first call.
 */
export class StepWriter implements AsyncDisposable {
  readonly #parts: StepWriterParts
  #thread: ThreadClient<StepCalls> | undefined

  constructor(parts: StepWriterParts) {
    this.#parts = parts
  }

  /** Reads records. Throws if one cannot be read. */
  async read(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]> {
    return await this.#started.call(
      'read',
      names.map(name => `${this.#parts.root}/${recordKey(name)}`),
    )
  }

  /** See {@link Store.writeSteps}. */
  async write(steps: readonly WriteStep[], durability: 'durable' | 'ordered'): Promise<void> {
    const { root, isOrdered, scratch } = this.#parts
    const isDurable = durability === 'durable'
    const write = async (spooled?: string): Promise<void> => {
      const files = filesOf(steps, root, spooled)
      await this.#call({ scratch: await scratch(), root, steps: files, isOrdered, isDurable })
    }
    const spool = steps.flat().find(one => one.kind === 'spool')
    if (spool === undefined) await write()
    else if (spool.spool instanceof DiskSpool) await spool.spool.surrender(spool.sizeBytes, 'relaxed', write)
    else throw new TypeError('a spool of another store cannot be adopted')
  }

  async #call(task: StepTask): Promise<void> {
    try {
      await this.#started.call('write', task)
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'EEXIST', 'EISDIR', 'ENOTDIR', 'ENOTEMPTY', 'EXDEV')) throw error
      throw new ObstacleError('something is in the way of a write', { cause: error })
    }
  }

  get #started(): ThreadClient<StepCalls> {
    this.#thread ??= new ThreadClient('writer', new URL('./step-writer-thread.ts', import.meta.url))
    return this.#thread
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.[Symbol.asyncDispose]()
  }
}

/** The files below a root that steps write; `spooled` is the path of the spool among them. */
function filesOf(steps: readonly WriteStep[], root: string, spooled: string | undefined): StepTask['steps'] {
  return steps.map(step =>
    step.map(write => ({
      ...placeOf(write, root),
      bytes: write.kind === 'spool' ? undefined : write.bytes,
      from: write.kind === 'spool' ? spooled : undefined,
    })),
  )
}

function placeOf(write: StoreWrite, root: string): Pick<FileWrite, 'path' | 'lastingLength'> {
  const path = `${root}/${keyOf(write)}`
  const passing = write.kind === 'record' ? passingDirectory(write.name) : undefined
  return { path, lastingLength: dirname(passing === undefined ? path : `${root}/${passing}`).length }
}

function keyOf(write: StoreWrite): string {
  if (write.kind !== 'record') return contentKey(write.digest)
  if (write.bytes.length > RECORD_BYTES_MAX)
    throw new RangeError(`a record of ${write.bytes.length} bytes is too large`)
  return recordKey(write.name)
}
