/** Types of notices, as the `events` of an endpoint name them. */
export const NOTICE_TYPES = [
  'manifest.pushed',
  'tag.moved',
  'upstream.tag.moved',
  'upstream.tag.deleted',
  'tag.deleted',
  'manifest.deleted',
  'blob.deleted',
  'quota.warned',
  'quota.exceeded',
  'retention.removed',
  'object.damaged',
  'record.damaged',
  'upstream.unavailable',
  'upstream.available',
] as const

export type NoticeType = (typeof NOTICE_TYPES)[number]
