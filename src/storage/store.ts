import type { Digest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { UploadId } from '../oci/upload-id.ts'

/**
 * Bytes at rest. One suite (`test/storage/contract.ts`) proves this contract for every implementation.
 *
 * Content is addressed by its digest and immutable, so concurrent writers of one digest are harmless: the
 * last one replaces the same bytes by the same bytes. A store never shows content under its digest before it
 * is complete and durable, in any crash order. Records are small mutable values under {@link RecordName}s; a
 * reader sees either the complete old value or the complete new one.
 *
 * Absent is `undefined`. A store that cannot tell (I/O error, no permission, network) throws, and must not
 * say "absent". Anything under a content's key that is not a regular object (a directory, a FIFO, a link) is
 * broken: `open` throws. All methods may run concurrently with each other.
 */
export interface Store extends AsyncDisposable {
  /**
   * Opens content for reading, as one step that both checks that it exists and returns the handle. The caller
   * disposes of the handle. Does not verify the bytes.
   */
  open(digest: Digest): Promise<StoredObject | undefined>

  /**
   * Opens a spool file for the future content of `digest`, in the store's own scratch space, from which
   * {@link adopt} can take it without a copy. The file is empty, or it is a leftover of an unfinished fill of
   * this digest that no other fill holds. The bytes of a leftover are unproved: the caller hashes them again
   * before it appends. Only a leftover that was created with the same `claimant`, or like this one without a
   * claimant, is returned.
   */
  createSpool(digest: Digest, claimant?: string): Promise<SpoolFile>

  /**
   * The only way to add content: takes the spool's first `sizeBytes` bytes as the content of `digest`. The
   * caller has proved them. When this resolves, the content is durable and visible, and the spool stays
   * readable until the caller disposes of it. If this throws, nothing has become visible, and the spool still
   * belongs to the caller.
   */
  adopt(spool: SpoolFile, digest: Digest, sizeBytes: number): Promise<void>

  /**
   * Creates the spool of an upload. It outlives this process: disposing of it closes it, and
   * {@link openUpload} opens it again. {@link adopt} takes it like any other spool. `digest` is that of the
   * future content, if it is known already: a remote store can then take the bytes as they come.
   */
  createUpload(id: UploadId, digest?: Digest): Promise<UploadSpool>

  /**
   * Opens the spool of an upload again; `undefined` if no bytes of it are here. It has everything that was
   * written; if the machine was started anew since, only the first `syncedBytes`, since the rest may be
   * wrong. One process uses an upload at a time.
   */
  openUpload(id: UploadId, syncedBytes: number): Promise<UploadSpool | undefined>

  /**
   * Removes content; `false` if it was absent. Open handles stay readable if the store can keep bytes that
   * have no name any more, as a disk can. In other stores their reads may throw, but never return other
   * bytes. The same holds for content that `adopt` replaces or `quarantine` moves.
   */
  delete(digest: Digest): Promise<boolean>

  /**
   * Removes content without telling whether it was there. Set if many calls at once cost less than as many
   * deletes. Content that is stored again meanwhile may be removed with it.
   */
  discard?(digest: Digest): Promise<void>

  /** True if no other process uses the store now. Unset if that cannot be told. */
  isAlone?(): Promise<boolean>

  /**
   * Moves broken content out of the way, so that the next {@link open} finds nothing and the next fill
   * replaces it. Keeps the damaged bytes for an operator if that is cheap. Absent content is not an error. A
   * store that orders the changes of a digest asks `isStill` in that order, and moves nothing if it says no.
   */
  quarantine(digest: Digest, isStill?: () => Promise<boolean>): Promise<void>

  /** Reads a record. Records larger than 64 KiB are broken. */
  readRecord(name: RecordName): Promise<Uint8Array | undefined>

  /** Reads several records, in the order of their names. */
  readRecords(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]>

  /**
   * Tells which records exist, in the order of their names, for a caller that is about to write. Cheaper than
   * to read them. In a bucket that is gone as a whole all records are absent, and every write fails: a caller
   * that does not write after it confirms an absence by {@link readRecords}.
   */
  hasRecords(names: readonly RecordName[]): Promise<readonly boolean[]>

  /**
   * Replaces a record. A {@link Durability} says what survives a power cut once this resolves.
   */
  writeRecord(name: RecordName, bytes: Uint8Array, durability: Durability): Promise<void>

  /**
   * Writes a record, durably, if it is absent. Otherwise changes nothing and returns what is there, which is
   * durable then. Of several callers one creates the record and all others get its bytes, within the
   * {@link CreationScope} of the store. If this throws, the record may be there all the same, even later.
   */
  createRecord(name: RecordName, bytes: Uint8Array): Promise<Creation>

  /**
   * How far {@link createRecord} holds. Throws if that cannot be told now; asked again, it tries again. What
   * was found once is remembered.
   */
  creationScope(): Promise<CreationScope>

  /** Reads a record, and how long ago it was written. Both times are by the one clock of the store. */
  readAgedRecord(name: RecordName): Promise<AgedRecord | undefined>

  /**
   * Writes several things in order: what a step writes survives a power cut only if all earlier steps do. The
   * writes of one step have no order, and at most one of all writes is content. When this resolves, all of it
   * is visible, and as durable as wanted. If it throws, any of the writes may have happened, and a spool
   * still belongs to the caller.
   */
  writeSteps(steps: readonly WriteStep[], durability: 'durable' | 'ordered'): Promise<void>

  /** Removes a record; `false` if it was absent. */
  deleteRecord(name: RecordName): Promise<boolean>

  /**
   * Walks all content, in no particular order. Content added or removed meanwhile may or may not appear.
   * Files that are not under a content key are skipped. Leaving the loop early ends the walk.
   */
  list(): AsyncIterable<StoredEntry>

  /** Walks all records of tags and links, in the same way. */
  listRecords(): AsyncIterable<RecordName>

  /** Walks the records of one group, in the same way. */
  listRecordsOf(group: RecordGroup): AsyncIterable<RecordName>

  /** Room of the medium; `undefined` for a store without a limit of its own. */
  measureRoom(): Promise<Room | undefined>

  /**
   * Resolves if the store can be read and written now; otherwise throws the reason. Cheap enough for a health
   * probe.
   */
  probe(): Promise<void>

  /** Set only if clients may be redirected to the store. */
  readonly presigner?: Presigner | undefined

  /** Set only if the store is on another machine. */
  readonly remote?: RemoteStore | undefined

  /** Set only if the store keeps copies of its content on this machine. */
  readonly copies?: LocalCopies | undefined
}

/**
 * Copies of the small content of a remote store in files of this machine. Removing content through the store
 * removes the copy too. A removal by another process does not, so a copy is for serving: it does not show
 * that the content is stored.
 */
export interface LocalCopies {
  readonly status: CopiesStatus
  /**
   * Opens content in order to serve it, on the same terms as {@link Store.open}. Small content is copied
   * first, and the copy is opened. The version of a copy differs from that of the content in the store.
   */
  open(digest: Digest): Promise<StoredObject | undefined>
  /** The same for a further look at what {@link open} gave, which does not count as a read. */
  openAgain(digest: Digest): Promise<StoredObject | undefined>
  /** True if a version is that of a copy, and not of the content in the store. */
  isCopy(version: string): boolean
  /** Removes the copy, if there is one. */
  drop(digest: Digest): Promise<void>
  /**
   * Removes a copy that was found damaged, and uses the store itself from now on. `false` if this version is
   * not that of a copy: the content in the store is damaged then.
   */
  dropDamaged(digest: Digest, version: string): Promise<boolean>
}

/** State of the copies. `bytes` is the room of their files on the disk. */
export interface CopiesStatus {
  readonly objects: number
  readonly bytes: number
  readonly maxBytes: number
  /** Reads of content that was here or was being copied, and of content that was copied for them. */
  readonly hits: number
  readonly misses: number
  /** True for a while after a failure of the disk. */
  readonly isPaused: boolean
}

/** A store that can let a client fetch content from it directly. */
export interface Presigner {
  /**
   * Creates a URL with which a client without credentials can GET the content for some minutes. Does not
   * check that the content exists.
   */
  presign(digest: Digest): Promise<string>
}

/** The part of a store that depends on another machine. */
export interface RemoteStore {
  /**
   * Aborts running requests and refuses new ones, so that disposing of the store takes only moments: its
   * methods then throw a `StoreUnavailableError`. Content that was being adopted is then either completely
   * visible or absent. May be called repeatedly, and after the store was disposed of.
   */
  cut(): void
}

/** A file on this machine. While it is open, all threads of the process can read it by its descriptor. */
export interface LocalFile {
  readonly fd: number
}

/** Name of a record; `storage/layout.ts` makes its key. */
export type RecordName =
  | CacheRecordName
  | HistoryRecordName
  | PullsRecordName
  | HostedRecordName
  | RunRecordName
  | DecisionRecordName
  | StateRecordName

/** One run of a job that is done once for all processes on the store. */
type RunRecordName = { readonly kind: 'run'; readonly job: string; readonly number: number }

/** What operators decide about: images that must not be evicted, and tokens of robots. */
export type DecisionSubject = 'pins' | 'robots'

/** One decision of an operator, or the second copy of it. */
type DecisionRecordName = {
  readonly kind: 'decision'
  readonly about: DecisionSubject | `${DecisionSubject}-copy`
  /** Hexadecimal digits. */
  readonly id: string
}

/**
 * Records of mirrored repositories. `tag`: the digest that a tag had when its registry was last asked.
 * `link`: lets a repository see a digest.
 */
type CacheRecordName =
  | (Place & { readonly kind: 'tag'; readonly tag: Tag })
  | (Place & { readonly kind: 'link'; readonly digest: Digest })

/**
 * Moves of a tag, hosted or mirrored. `move`: one of them; `id` begins with its time. `history`: the list of
 * them that earlier versions wrote.
 */
type HistoryRecordName = Place & { readonly tag: Tag } & (
    | { readonly kind: 'history' }
    | { readonly kind: 'move'; readonly id: string }
  )

/** The last pulls of some of the tags of a hosted repository. */
type PullsRecordName = Place & { readonly kind: 'pulls'; readonly shard: number }

/**
 * Records of hosted repositories. `hosted-repository`: something was once pushed there; never removed.
 * `hosted-tag`: the manifest that a tag names. `hosted-tagged`: the tag may name the manifest `digest`.
 * `hosted-manifest`: the repository has this manifest. `hosted-blob`: it has this blob, and since when
 * somebody relies on it. `hosted-referrer`: the manifest `referrer` names `digest` as its subject.
 * `hosted-hold`: the repository holds the content of `digest`, because the manifest `by` names it, or,
 * without `by`, because the content is itself a manifest or blob of it. `hosted-upload`: an upload that has
 * begun. `hosted-unneeded`: nothing needed the digest when the collection looked. `hosted-removal`: it is
 * being removed.
 */
export type HostedRecordName =
  | (Place & { readonly kind: 'hosted-repository' })
  | (Place & { readonly kind: 'hosted-tag'; readonly tag: Tag })
  | (Place & { readonly kind: 'hosted-tagged'; readonly digest: Digest; readonly tag: Tag })
  | (Place & { readonly kind: 'hosted-manifest' | 'hosted-blob'; readonly digest: Digest })
  | (Place & { readonly kind: 'hosted-referrer'; readonly digest: Digest; readonly referrer: Digest })
  | (Place & { readonly kind: 'hosted-hold'; readonly digest: Digest; readonly by?: Digest | undefined })
  | { readonly kind: 'hosted-upload'; readonly id: UploadId }
  | { readonly kind: 'hosted-unneeded'; readonly digest: Digest }
  | { readonly kind: 'hosted-removal'; readonly digest: Digest }

/**
 * `scrub`: the progress of the verification of stored content. `pins-damaged` and `robots-damaged`: the last
 * record of a pin or robot token that could not be read. `robots-used`: when each token was last used.
 * `signing-key`: the key of the tokens that this mirror gives out. `traffic`: the traffic of the last days,
 * for display.
 */
interface StateRecordName {
  readonly kind: 'scrub' | 'pins-damaged' | 'robots-damaged' | 'robots-used' | 'signing-key' | 'traffic'
}

/** Records that {@link Store.listRecordsOf} lists together, by the kind of their {@link RecordName}. */
export type RecordGroup =
  | { readonly kind: 'hosted-repository' | 'hosted-upload' | 'hosted-unneeded' }
  | { readonly kind: 'run'; readonly job: string }
  | { readonly kind: 'decision'; readonly about: DecisionRecordName['about'] }
  /** The moves of one tag; without a tag, those of all tags of a repository. */
  | (Place & { readonly kind: 'move'; readonly tag?: Tag })
  | (Place & { readonly kind: 'hosted-tag' | 'hosted-manifest' | 'hosted-blob' })
  /** The referrers of a subject, or the tags that may name a manifest. */
  | (Place & { readonly kind: 'hosted-referrer' | 'hosted-tagged'; readonly digest: Digest })
  /** Everything that holds a digest, in all repositories; without a digest, all holds. */
  | { readonly kind: 'hosted-hold'; readonly digest?: Digest | undefined }

/**
 * `durable` writes survive a power cut. `ordered` ones survive it if a later durable write did. `relaxed`
 * ones may not.
 */
export type Durability = 'durable' | 'ordered' | 'relaxed'

/** Result of {@link Store.createRecord}. */
export type Creation =
  | { readonly kind: 'created' }
  /** Somebody else created it, with these bytes. */
  | { readonly kind: 'exists'; readonly bytes: Uint8Array }

/** Callers among which {@link Store.createRecord} has one winner. */
export type CreationScope =
  /** All processes that use the store. */
  | { readonly kind: 'store' }
  /** Those of this process; `why` is a clause that names the store and what it lacks. */
  | { readonly kind: 'process'; readonly why: string }

/** A record with its age. */
export interface AgedRecord {
  readonly bytes: Uint8Array
  /** Time since it was last written, in milliseconds; never negative. May be wrong by a second or two. */
  readonly ageMs: number
}

/** Writes without an order among them. */
export type WriteStep = readonly StoreWrite[]

/** A record, or content whose bytes the caller has proved. A spool is adopted. */
export type StoreWrite =
  | { readonly kind: 'record'; readonly name: RecordName; readonly bytes: Uint8Array }
  | { readonly kind: 'content'; readonly digest: Digest; readonly bytes: Uint8Array }
  | {
      readonly kind: 'spool'
      readonly digest: Digest
      readonly spool: SpoolFile
      readonly sizeBytes: number
    }

/** Content found by a walk. */
export interface StoredEntry {
  readonly digest: Digest
  readonly sizeBytes: number
  /** Time it was stored, in milliseconds since 1970 by the store's own clock. */
  readonly storedAtMs: number
}

/** Room of the medium that holds the store. */
export interface Room {
  readonly freeBytes: number
  readonly totalBytes: number
}

/** Content open for reading. It yields the stored bytes, proved or not; the caller knows which. */
export interface StoredObject extends AsyncDisposable {
  readonly sizeBytes: number
  /**
   * Changes whenever the bytes may have changed: bytes verified under one version need not be verified again.
   */
  readonly version: string
  /** Set only if the object is a file on this machine. */
  readonly file?: LocalFile | undefined
  /**
   * Yields `[start, end)` in order, in pieces of at most 1 MiB, each valid until the next is requested.
   * Throws if the object turns out shorter or cannot be read. A `StoreUnavailableError` says nothing about
   * the bytes; any other error does. Several reads of one object may run at once.
   */
  read(start: number, end: number): AsyncIterable<Uint8Array>
}

/**
 * A file in the store's scratch space. One writer appends, and any number of readers read what has been
 * written.
 */
export interface SpoolFile extends AsyncDisposable {
  /** Number of bytes in the file now. */
  readonly sizeBytes: number
  /** Set only while the spool is open, and only if it is a file on this machine. */
  readonly file?: LocalFile | undefined
  /**
   * Appends the pieces one after the other, all of them or none: throws otherwise (disk full, I/O error).
   * Only one append may run at a time.
   */
  append(...pieces: readonly Uint8Array[]): Promise<void>
  /**
   * Fills `buffer` from `position` with as many bytes as the file has there, and returns the number of bytes
   * read. Callers only ask for bytes that have been appended. Any number of reads may run at once, also
   * beside an append.
   */
  read(buffer: Uint8Array, position: number): Promise<number>
  /** Empties the file; no append may be running. */
  clear(): Promise<void>
  /**
   * Keeps the file for the next fill of its digest when it is disposed of; otherwise an unadopted file is
   * deleted.
   */
  keep(): void
}

/** The spool of an upload. It stays when it is disposed of, unless it was adopted or removed. */
export interface UploadSpool extends SpoolFile {
  /** When this resolves, the bytes appended so far survive a power cut. */
  sync(): Promise<void>
  /** Cuts the file off; no append may be running. */
  truncate(sizeBytes: number): Promise<void>
  /** Disposes of the spool and removes its bytes. */
  remove(): Promise<void>
}
