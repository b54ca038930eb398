import type { Clock } from '../lib/clock.ts'
import { type Digest, matchesDigest } from '../oci/digest.ts'
import { MANIFEST_SIZE_MAX } from '../oci/manifest.ts'
import type { FetchedManifest } from '../upstream/registry.ts'
import type { Found, PeerAsking } from './asking.ts'
import type { Following } from './following.ts'
import type { Member } from './members.ts'
import { contentKeyOf } from './owned-tags.ts'
import { PEER_PACE, PeerBody, type PeerPace } from './peer-body.ts'
import type { PeerQuestion } from './protocol.ts'
import { readUpTo } from './proved.ts'

export interface PeerContentParts {
  readonly asking: PeerAsking
  readonly following: Following
  readonly clock: Pick<Clock, 'monotonicMs' | 'delay'>
  /** Identity of the store; `undefined` for a store that no other replica has. */
  readonly store: string | undefined
  readonly pace?: PeerPace
}

/** Longest time that a follower waits for the owner to store a blob, in milliseconds. */
const STORING_MS = 10 * 60_000

type BlobQuestion = Extract<PeerQuestion, { readonly kind: 'blob' }>

/** Reads the content that members send. What is wrong is not used, and its sender is distrusted. */
export class PeerContent {
  readonly #parts: PeerContentParts

  constructor(parts: PeerContentParts) {
    this.#parts = parts
  }

  /** The body of a blob that a member sends; `undefined` if it is not what was asked for. */
  open({ answer, body, member }: Found, question: BlobQuestion, signal: AbortSignal): PeerBody | undefined {
    if (answer.kind !== 'content' || answer.from !== question.from) {
      body.destroy()
      return undefined
    }
    const { clock, pace = PEER_PACE, asking, following } = this.#parts
    const { metrics } = asking.parts
    const { namespace, digest } = question
    const mark = following.begin(contentKeyOf(namespace, digest))
    const isShared = this.#parts.store !== undefined && member.met?.store === this.#parts.store
    return new PeerBody(
      body,
      { offset: answer.from, sizeBytes: answer.sizeBytes },
      {
        clock,
        pace,
        name: member.name,
        probe: async () => await this.#progressOf(member, question, signal),
        onBytes: bytes => {
          member.counts.receivedBytes += bytes
          metrics.peerReceivedBytes.inc(bytes)
        },
        onSilent: () => member.breaker.begin().failedBadly(),
        onEnd: () => mark[Symbol.dispose](),
        disown: () => this.#distrust(member, digest),
        ...(isShared
          ? { isKept: async (until: AbortSignal) => await this.#isKept(member, question, until) }
          : {}),
      },
    )
  }

  /** Offset up to which the member could send the blob now; `undefined` if it does not answer. */
  async #progressOf(
    member: Member,
    { namespace, repository, digest }: BlobQuestion,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { wire } = this.#parts.asking.parts
    const question = { kind: 'progress', namespace, repository, digest, untilStored: false } as const
    try {
      const { answer, body } = await wire.ask(member.address, question, { signal, isBrief: true })
      body.resume()
      return answer.kind === 'progress' ? answer.readableBytes : 0
    } catch {
      return undefined
    }
  }

  /** Resolves when the member has stored the blob, or will not. */
  async #isKept(
    member: Member,
    { namespace, repository, digest }: BlobQuestion,
    until: AbortSignal,
  ): Promise<boolean> {
    const { wire } = this.#parts.asking.parts
    const question = { kind: 'progress', namespace, repository, digest, untilStored: true } as const
    try {
      const signal = AbortSignal.any([until, AbortSignal.timeout(STORING_MS)])
      const options = { signal, isBrief: true, isPatient: true }
      const { answer, body } = await wire.ask(member.address, question, options)
      body.resume()
      return answer.kind === 'progress' && answer.state === 'stored'
    } catch {
      return false
    }
  }

  /** The manifest that a member sent, if it is the right one. */
  async manifest({ answer, body, member }: Found, digest: Digest): Promise<FetchedManifest | undefined> {
    if (answer.kind !== 'content') return undefined
    const { pace = PEER_PACE } = this.#parts
    const bytes = await readUpTo(body, MANIFEST_SIZE_MAX, pace.manifestMs)
    if (bytes === undefined) return undefined
    this.#parts.asking.parts.metrics.peerReceivedBytes.inc(bytes.byteLength)
    member.counts.receivedBytes += bytes.byteLength
    if (!matchesDigest(bytes, digest)) {
      this.#distrust(member, digest)
      return undefined
    }
    const isShared = this.#parts.store !== undefined && member.met?.store === this.#parts.store
    return {
      bytes,
      contentType: answer.mediaType,
      claimedDigest: digest,
      isKept: isShared && answer.isStored,
    }
  }

  /** The member sent other bytes than it was asked for. */
  #distrust(member: Member, digest: Digest): void {
    const { metrics, events } = this.#parts.asking.parts
    member.counts.lies += 1
    metrics.peerWrongContent.inc()
    member.ignore('it sent content that does not match its digest')
    events.warned('another replica sent content that does not match its digest', {
      member: member.name,
      digest,
    })
  }
}
