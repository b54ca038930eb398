import type { Answering, Asked, ReferrersQuestion } from '../../content/answering.ts'
import { OCI_INDEX } from '../../oci/media-type.ts'
import type { RequestedName } from '../../oci/place.ts'
import { outcomeHeaders, type Reply } from '../reply.ts'

/** Query of a list of referrers. */
type ReferrersRequest = ReferrersQuestion & { readonly name: RequestedName }

/** `GET /v2/<name>/referrers/<digest>?artifactType=&last=`. The link to the next page is of this mirror. */
export async function answerReferrers(
  answering: Answering,
  asked: Asked,
  request: ReferrersRequest,
): Promise<Reply> {
  const { value, outcome } = await answering.referrers(asked, request)
  const { index, next } = value
  const headers = {
    'Content-Type': OCI_INDEX,
    'Content-Length': String(index.byteLength),
    ...(request.artifactType === undefined ? {} : { 'OCI-Filters-Applied': 'artifactType' }),
    ...(next === undefined ? {} : { Link: `<${nextPath({ ...request, last: next })}>; rel="next"` }),
    ...outcomeHeaders(outcome),
  }
  return { status: 200, headers, body: { kind: 'bytes', bytes: index }, outcome }
}

function nextPath({ name, digest, artifactType, last }: ReferrersRequest): string {
  const query = new URLSearchParams()
  if (artifactType !== undefined) query.set('artifactType', artifactType)
  if (last !== undefined) query.set('last', last)
  for (const value of name.ns) query.append('ns', value)
  const prefix = name.prefix === undefined ? '' : `/${name.prefix}`
  return `${prefix}/v2/${name.path}/referrers/${digest}?${query.toString()}`
}
