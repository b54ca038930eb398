import { type ImageJudge, type ImageVerdict, whyRefused } from './judge.ts'
import { REVIEW_VERSION, type Review } from './review.ts'

/** `AdmissionResponse` of `admission.k8s.io/v1`. */
export interface AdmissionResponse {
  readonly uid: string
  readonly allowed: boolean
  readonly status?: { readonly code: number; readonly reason: string; readonly message: string }
  readonly warnings?: readonly string[]
  readonly auditAnnotations?: Readonly<Record<string, string>>
  readonly patchType?: 'JSONPatch'
  /** A JSON patch (RFC 6902) in base64. */
  readonly patch?: string
}

/** What became of a review, for the metrics. */
export type AdmissionVerdict = 'allowed' | 'denied' | 'warned' | 'audited' | 'rewritten' | 'not-judged'

/** An answer, and what led to it. */
export interface ReviewAnswer {
  readonly response: AdmissionResponse
  readonly verdict: AdmissionVerdict
  readonly refused: readonly ImageVerdict[]
}

const IMAGES_SHOWN = 10
/** Different images that are judged. Others wait meanwhile, and anybody in the cluster can send a review. */
const IMAGES_MAX = 2000
const ANNOTATION_LENGTH_MAX = 4096

/** Judges the images that a request adds. */
export function judgeReview(judge: ImageJudge, review: Review): ReviewAnswer {
  const { uid, nothing, added, namespace, kind, operation } = review
  const { mode } = judge.rules
  const allowed = { uid, allowed: true }
  if (nothing === 'no-object')
    return unjudged(
      review,
      mode === 'enforce',
      `this ${operation} has no object, so that its images cannot be judged`,
    )
  if (nothing !== undefined) return { response: allowed, verdict: 'not-judged', refused: [] }
  const images = new Set(added.map(({ image }) => image))
  if (images.size > IMAGES_MAX)
    return unjudged(
      review,
      mode === 'enforce' && kind === 'Pod',
      `it has ${images.size} different images, and ${IMAGES_MAX} are judged`,
    )
  const refused = [...images]
    .map(image => judge.judge(image, namespace))
    .filter(({ isAllowed }) => !isAllowed)
  if (refused.length === 0) return { response: allowed, verdict: 'allowed', refused }
  const sentences = shownSentences(refused)
  if (mode === 'audit')
    return { response: { ...allowed, ...annotation(refused) }, verdict: 'audited', refused }
  // What runs is a Pod, which is judged when it is made, and other webhooks may still change its images.
  if (mode === 'warn' || kind !== 'Pod')
    return {
      response: { ...allowed, warnings: sentences, ...annotation(refused) },
      verdict: 'warned',
      refused,
    }
  const status = { code: 403, reason: 'Forbidden', message: sentences.join('; ') }
  return { response: { uid, allowed: false, status, ...annotation(refused) }, verdict: 'denied', refused }
}

/** The whole answer, as it is sent. */
export function reviewText(response: AdmissionResponse): string {
  return JSON.stringify({ apiVersion: REVIEW_VERSION, kind: 'AdmissionReview', response })
}

function unjudged({ uid }: Review, isDenied: boolean, message: string): ReviewAnswer {
  if (!isDenied)
    return { response: { uid, allowed: true, warnings: [message] }, verdict: 'not-judged', refused: [] }
  const status = { code: 400, reason: 'BadRequest', message }
  return { response: { uid, allowed: false, status }, verdict: 'denied', refused: [] }
}

/** Sentences on the first images. A status and a warning go to the user's terminal. */
function shownSentences(refused: readonly ImageVerdict[]): readonly string[] {
  const more = refused.length - IMAGES_SHOWN
  const sentences = refused.slice(0, IMAGES_SHOWN).map(whyRefused)
  return more > 0 ? [...sentences, `and so are ${more} more images`] : sentences
}

/** The API server puts the name of the webhook before the key. */
function annotation(refused: readonly ImageVerdict[]): Pick<AdmissionResponse, 'auditAnnotations'> {
  const text = refused.map(({ image }) => image).join(' ')
  return { auditAnnotations: { 'refused-images': text.slice(0, ANNOTATION_LENGTH_MAX) } }
}
