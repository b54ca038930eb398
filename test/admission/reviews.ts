export interface ReviewedObject {
  readonly operation?: string
  readonly kind?: string
  readonly namespace?: string
  readonly spec: object | undefined
  readonly oldSpec?: object
}

/** An `AdmissionReview` as the API server sends it. */
export function podReview({
  operation = 'CREATE',
  kind = 'Pod',
  namespace = 'default',
  spec,
  oldSpec,
}: ReviewedObject): object {
  const metadata = { name: 'web', namespace }
  const request = {
    uid: 'the-uid',
    kind: { group: '', version: 'v1', kind },
    resource: { group: '', version: 'v1', resource: 'pods' },
    name: 'web',
    namespace,
    operation,
    userInfo: { username: 'alice', groups: ['system:authenticated'] },
    object: spec === undefined ? null : { apiVersion: 'v1', kind, metadata, spec },
    oldObject: oldSpec === undefined ? null : { apiVersion: 'v1', kind, metadata, spec: oldSpec },
    dryRun: false,
    options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
  }
  return { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request }
}
