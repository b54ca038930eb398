import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { BufferPool } from '../../../src/lib/reader-buffers.ts'
import { CopyDirectory } from '../../../src/storage/copies/copy-directory.ts'
import { CopyingStore } from '../../../src/storage/copies/copying-store.ts'
import { filesBelow } from '../rooms.ts'
import { openStubRoom, type StubRoom } from '../s3/rooms.ts'

export const MiB = 1024 * 1024

/** A store on a stub with local copies, and everything around it. */
export interface CopiesRoom extends StubRoom {
  readonly directory: CopyDirectory
  readonly copying: CopyingStore
  /** Where the copies are. */
  readonly path: string
  /** Moves the clocks that the copies see. */
  readonly advance: (ms: number) => void
  /** Ends this process, and starts another one on the same directory. */
  readonly restart: () => Promise<Pick<CopiesRoom, 'directory' | 'copying'>>
  /** The files of the copies, by their names. */
  readonly files: () => Promise<readonly string[]>
  /** Number of requests that the bucket got, without those of its sweep. */
  readonly requests: () => number
}

interface CopiesRoomOptions {
  readonly maxBytes?: number
  readonly copyBytesMax?: number
  /** Directory of the copies, if it is not an ordinary one below the spool directory. */
  readonly path?: string
}

/** Opens such a store; it ends with the test. */
export async function openCopiesRoom(t: TestContext, options: CopiesRoomOptions = {}): Promise<CopiesRoom> {
  const room = await openStubRoom(t)
  const { maxBytes = 64 * MiB, path = join(room.spoolDirectory, 'copies-test'), ...rest } = options
  let aheadMs = 0
  const clock = { wallMs: () => Date.now() + aheadMs, monotonicMs: () => performance.now() + aheadMs }
  const open = async (store: StubRoom['store']): Promise<Pick<CopiesRoom, 'directory' | 'copying'>> => {
    const { events } = room
    const directory = new CopyDirectory({ path, maxBytes, ...rest, buffers: new BufferPool(), clock, events })
    const copying = new CopyingStore({ store, directory, events })
    t.after(async () => await copying[Symbol.asyncDispose]())
    await directory.loaded()
    return { directory, copying }
  }
  const { directory, copying } = await open(room.store)
  return {
    ...room,
    directory,
    copying,
    path,
    advance: ms => {
      aheadMs += ms
    },
    restart: async () => {
      await copying[Symbol.asyncDispose]()
      return await open(await room.openAnother())
    },
    files: async () => await filesBelow(path),
    requests: () => room.stub.requests.length - room.stub.count('ListMultipartUploads'),
  }
}
