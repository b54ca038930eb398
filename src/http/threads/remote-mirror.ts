import type { Answer, Asked, ContentAnswering, Head } from '../../content/answering.ts'
import type { Repeatable } from '../../content/epoch.ts'
import { currentSpan } from '../../observe/tracing/span.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Reference } from '../../oci/reference.ts'
import type { Channel } from './channel.ts'
import type { AnswerText, ContentRequest, HeadText, MirrorCalls } from './protocol.ts'
import { createRemoteBuffers, remoteContent } from './remote-content.ts'

/** The mirror of the first thread, for use in a further thread. */
export class RemoteMirror implements ContentAnswering {
  readonly #channel: Channel<MirrorCalls>
  readonly #buffers = createRemoteBuffers()
  readonly #shown: (digest: Digest) => void

  /** @param shown is called for each manifest that is served again without asking. */
  constructor(channel: Channel<MirrorCalls>, shown: (digest: Digest) => void) {
    this.#channel = channel
    this.#shown = shown
  }

  async pullManifest(asked: Asked, reference: Reference): Promise<Answer> {
    return await this.#get({ method: 'GET', asked, kind: 'manifest', reference })
  }

  async headManifest(asked: Asked, reference: Reference): Promise<Head> {
    return await this.#head({ method: 'HEAD', asked, kind: 'manifest', reference })
  }

  async pullBlob(asked: Asked, digest: Digest): Promise<Answer> {
    return await this.#get({ method: 'GET', asked, kind: 'blob', digest })
  }

  async headBlob(asked: Asked, digest: Digest): Promise<Head> {
    return await this.#head({ method: 'HEAD', asked, kind: 'blob', digest })
  }

  async #get(request: ContentRequest): Promise<Answer> {
    const answer = await this.#channel.call('answer', { ...request, ...trace() })
    if (!('content' in answer)) throw new Error('a GET was answered without content')
    const { outcome, digest } = answer
    const content = remoteContent(answer, this.#channel, this.#buffers)
    return { content, outcome, repeatable: this.#repeatable(answer, digest) }
  }

  async #head(request: ContentRequest): Promise<Head> {
    const head = await this.#channel.call('answer', { ...request, ...trace() })
    if ('content' in head) throw new Error('a HEAD was answered with content')
    return { ...head, repeatable: this.#repeatable(head, head.digest) }
  }

  #repeatable(
    { repeatable }: Pick<AnswerText | HeadText, 'repeatable'>,
    digest: Digest,
  ): Repeatable | undefined {
    if (repeatable === undefined) return undefined
    const { epoch, forMs, isShown } = repeatable
    return isShown ? { epoch, forMs, again: () => this.#shown(digest) } : { epoch, forMs }
  }
}

/** Tells the first thread what its work is part of. */
function trace(): Pick<ContentRequest, 'traceparent'> {
  return { traceparent: currentSpan()?.traceparent }
}
