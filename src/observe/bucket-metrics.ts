import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

/** Counts of the local copies of a bucket. */
interface CopyCounts {
  readonly objects: number
  readonly bytes: number
  readonly maxBytes: number
  readonly hits: number
  readonly misses: number
}

/** Metrics of a cache in a bucket. `docs/operations.md` explains them. */
export interface BucketMetrics {
  readonly s3Seconds: Histogram<'operation' | 'result'>
  /** Reads the counts of local copies whenever the metrics are rendered; before, there are no series. */
  countCopies(read: () => CopyCounts): void
  readonly copiedObjects: Gauge
  readonly copiedBytes: Gauge
  readonly copiesMaxBytes: Gauge
  readonly copyReads: Counter<'result'>
}

/** Declares the metrics in a registry. */
export function createBucketMetrics(registry: Registry): BucketMetrics {
  let read: (() => CopyCounts) | undefined
  const gauge = (name: string, help: string, valueOf: (counts: CopyCounts) => number): Gauge =>
    new Gauge({
      name: `entrepot_s3_cache_${name}`,
      help,
      registers: [registry],
      collect() {
        if (read === undefined) this.remove()
        else this.set(valueOf(read()))
      },
    })
  return {
    s3Seconds: new Histogram({
      name: 'entrepot_s3_request_seconds',
      help: 'Time of requests to the bucket, retries included.',
      labelNames: ['operation', 'result'],
      buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 20],
      registers: [registry],
    }),
    countCopies: counts => {
      read = counts
    },
    copiedObjects: gauge(
      'objects',
      'Objects of the bucket with a copy on the local disk.',
      now => now.objects,
    ),
    copiedBytes: gauge('bytes', 'Room of those copies on the disk.', now => now.bytes),
    copiesMaxBytes: gauge('max_bytes', 'Most room that they may take.', now => now.maxBytes),
    copyReads: new Counter({
      name: 'entrepot_s3_cache_reads_total',
      help: 'Reads of small objects of the bucket: hit (from the copy) or miss (copied first).',
      labelNames: ['result'],
      registers: [registry],
      collect() {
        if (read === undefined) return
        const { hits, misses } = read()
        this.reset()
        this.inc({ result: 'hit' }, hits)
        this.inc({ result: 'miss' }, misses)
      },
    }),
  }
}
