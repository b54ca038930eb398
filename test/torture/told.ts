/** An upload that has begun, as its client knows it. */
export interface Upload {
  readonly location: string
  readonly bytes: Buffer
  readonly digest: string
  /** Bytes that the daemon has answered for. */
  acceptedBytes: number
  /** True if the request that ends it has been sent. */
  isFinishing: boolean
}

/** An image that is not acknowledged as a whole. */
export interface UnfinishedImage {
  readonly blobs: readonly Buffer[]
  readonly manifest: Buffer
  readonly tags: readonly string[]
}

interface TagState {
  /** What it was last acknowledged to name. */
  readonly acknowledged: string | undefined
  /** What requests without an answer would have it name. */
  readonly tried: readonly string[]
}

/** What clients were told, and what must therefore be there. */
export class Told {
  readonly blobs: string[] = []
  readonly manifests: string[] = []
  readonly tags = new Map<string, TagState>()
  readonly uploads = new Set<Upload>()
  /** Ids of uploads that were answered as finished. */
  readonly finishedUploads = new Set<string>()
  readonly unfinished = new Set<UnfinishedImage>()

  tryTag(tag: string, digest: string): void {
    const { acknowledged, tried = [] } = this.tags.get(tag) ?? {}
    this.tags.set(tag, { acknowledged, tried: [...tried, digest] })
  }

  setTag(tag: string, digest: string): void {
    this.tags.set(tag, { acknowledged: digest, tried: [] })
  }

  /** What is known at this moment; later answers do not change it. */
  copy(): Told {
    const copy = new Told()
    copy.blobs.push(...this.blobs)
    copy.manifests.push(...this.manifests)
    for (const [tag, state] of this.tags) copy.tags.set(tag, state)
    for (const upload of this.uploads) copy.uploads.add({ ...upload })
    for (const image of this.unfinished) copy.unfinished.add(image)
    return copy
  }

  /** What was told after another moment, and the tags of now. */
  since({ blobs, manifests }: { readonly blobs: number; readonly manifests: number }): Told {
    const copy = this.copy()
    copy.blobs.splice(0, blobs)
    copy.manifests.splice(0, manifests)
    return copy
  }
}
