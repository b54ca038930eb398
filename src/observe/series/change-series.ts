import type { Counter, Registry } from 'prom-client'
import { declareIn } from './declare.ts'

/** Metrics of pushes, removals and notifications. `docs/operations.md` explains them. */
export interface ChangeMetrics {
  readonly foreignCredentials: Counter
  readonly pushes: Counter
  readonly tagMoves: Counter<'by'>
  readonly deletions: Counter<'what'>
  readonly quotaRefusals: Counter
  readonly retentionRemovals: Counter
  readonly collectedObjects: Counter
  readonly collectedBytes: Counter
  readonly notifications: Counter<'result'>
  readonly spansDropped: Counter
}

/** Declares the metrics in a registry. */
export function createChangeMetrics(registry: Registry): ChangeMetrics {
  const { counter } = declareIn(registry)
  return {
    foreignCredentials: counter(
      'foreign_credentials_total',
      'Public requests with credentials that mean nothing here, which were ignored.',
    ),
    pushes: counter('pushed_manifests_total', 'Manifests that clients pushed.'),
    tagMoves: counter('tag_moves_total', 'Tags that got another digest, by the upstream or a client.', [
      'by',
    ]),
    deletions: counter('deletions_total', 'Tags, manifests and blobs deleted on request.', ['what']),
    quotaRefusals: counter('quota_refusals_total', 'Pushes refused because a quota is used up.'),
    retentionRemovals: counter('retention_removed_tags_total', 'Tags that a retention rule removed.'),
    collectedObjects: counter('collected_objects_total', 'Objects that nothing hosted needed any more.'),
    collectedBytes: counter('collected_bytes_total', 'Bytes of collected objects.'),
    notifications: counter('notifications_total', 'Notifications to endpoints, by result.', ['result']),
    spansDropped: counter('trace_spans_dropped_total', 'Spans that did not reach the collector of traces.'),
  }
}
