import { imagesOf, objectOf, type PlacedImage, podSpecOf, textOf } from './pod-images.ts'

/** A question of the API server, reduced to what decides. */
export interface Review {
  readonly uid: string
  readonly operation: string
  /** Such as `Pod`. */
  readonly kind: string
  /** Empty for objects that belong to no namespace. */
  readonly namespace: string
  readonly name: string
  readonly user: string
  /** Every place with an image that the object did not have before. */
  readonly added: readonly PlacedImage[]
  /** True for the mirrored object of a static Pod. */
  readonly isStatic: boolean
  /** Why there is nothing to judge; `undefined` if there is. */
  readonly nothing: 'no-object' | 'other-kind' | 'other-operation' | undefined
}

/** A body that is no review: the answer is 400 with this sentence. */
export class ReviewRefused extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ReviewRefused'
  }
}

export const REVIEW_VERSION = 'admission.k8s.io/v1'
const UID_LENGTH_MAX = 128
const STATIC = 'kubernetes.io/config.mirror'

/** Reads the body of a request. Throws a {@link ReviewRefused} for what is no `AdmissionReview` of v1. */
export function parseReview(body: string): Review {
  const review = objectOf(parseJson(body))
  if (review === undefined) throw new ReviewRefused('the body is not a JSON object')
  const version = textOf(review['apiVersion'])
  if (textOf(review['kind']) !== 'AdmissionReview') throw new ReviewRefused('this is not an AdmissionReview')
  if (version !== REVIEW_VERSION)
    throw new ReviewRefused(
      `this AdmissionReview is of version ${JSON.stringify(version.slice(0, 64))}; only ${REVIEW_VERSION} is answered`,
    )
  const request = objectOf(review['request'])
  const uid = textOf(request?.['uid'])
  if (request === undefined || uid === '' || uid.length > UID_LENGTH_MAX)
    throw new ReviewRefused('this AdmissionReview has no request with a uid')
  return reviewOf(request, uid)
}

function reviewOf(request: Readonly<Record<string, unknown>>, uid: string): Review {
  const operation = textOf(request['operation'])
  const kind = textOf(objectOf(request['kind'])?.['kind'])
  const object = objectOf(request['object'])
  const metadata = objectOf(object?.['metadata'])
  const spec = podSpecOf(kind, object)
  const isJudged = operation === 'CREATE' || operation === 'UPDATE'
  const before = operation === 'UPDATE' ? podSpecOf(kind, request['oldObject']) : undefined
  return {
    uid,
    operation,
    kind,
    namespace: textOf(request['namespace']),
    name: textOf(request['name']) || textOf(metadata?.['name']) || textOf(metadata?.['generateName']),
    user: textOf(objectOf(request['userInfo'])?.['username']),
    added: isJudged && spec !== undefined ? addedTo(imagesOf(spec), before && imagesOf(before)) : [],
    isStatic: objectOf(metadata?.['annotations'])?.[STATIC] !== undefined,
    nothing: whyNothing({ isJudged, object, hasSpec: spec !== undefined }),
  }
}

/**
 * A running Pod must stay changeable after the rules have changed, or its finalizers could never be removed.
 * So an update is judged by the images that are new in it.
 */
function addedTo(
  images: readonly PlacedImage[],
  before: readonly PlacedImage[] | undefined,
): readonly PlacedImage[] {
  const known = new Set(before?.map(({ image }) => image))
  return images.filter(({ image }) => !known.has(image))
}

function whyNothing({
  isJudged,
  object,
  hasSpec,
}: {
  readonly isJudged: boolean
  readonly object: object | undefined
  readonly hasSpec: boolean
}): Review['nothing'] {
  if (!isJudged) return 'other-operation'
  if (object === undefined) return 'no-object'
  return hasSpec ? undefined : 'other-kind'
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
