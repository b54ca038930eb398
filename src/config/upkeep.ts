import { parseBytes } from '../lib/bytes.ts'
import { parseDuration } from '../lib/duration.ts'
import type { ScrubConfig, SizeConfig, SpaceConfig, StoreConfig } from './config.ts'
import type { SettingsReader } from './reader.ts'
import type { Flag } from './settings.ts'

const BOUNDS: ReadonlySet<Flag> = new Set<Flag>([
  'max-size',
  'min-free',
  'dynamic-share',
  'max-blob',
  'read-only',
])

/** True for a limit of a cache on a file system, which needs no sub-command. */
export function isBound(flag: Flag): boolean {
  return BOUNDS.has(flag)
}

const BUCKET_BOUNDS: ReadonlySet<Flag> = new Set<Flag>(['max-size', 'dynamic-share', 'max-blob'])

/** True for a limit of a file system's cache that a bucket may have too. */
export function isBucketBound(flag: Flag): boolean {
  return BUCKET_BOUNDS.has(flag)
}

/** Reads the limits of the cache's size. */
export function readSpace(reader: SettingsReader, kind: StoreConfig['kind'] | undefined): SpaceConfig {
  const maxSizeGiven = reader.find('max-size')
  const maxSize = reader.parse(maxSizeGiven, parseMaxSize)
  const evictionsPerSecond = reader.parse(reader.find('evict-rate'), parseEvictRate)
  if (kind === 's3' && maxSizeGiven !== undefined && maxSize?.kind === 'percent')
    reader.refuse(maxSizeGiven, 'is a percentage, and a bucket has no size', 'such as 200GiB')
  return {
    maxSize,
    ...(evictionsPerSecond === undefined ? {} : { evictionsPerSecond }),
    minFree: reader.parse(reader.find('min-free'), parseSize),
    dynamicShare: reader.parse(reader.find('dynamic-share'), parseShare) ?? DYNAMIC_SHARE,
    maxBlob: reader.parse(reader.find('max-blob'), parseMaxSize) ?? MAX_BLOB,
  }
}

const MAX_SIZE_MIN = 1024 * 1024
const DYNAMIC_SHARE = 0.2
const MAX_BLOB = { kind: 'percent', percent: 50 } as const

const EVICT_RATE_MAX = 100_000

function parseEvictRate(text: string): number | undefined {
  const rate = /^[0-9]{1,6}$/.test(text) ? Number(text) : 0
  return rate >= 1 && rate <= EVICT_RATE_MAX ? rate : undefined
}

function parseSize(text: string): SizeConfig | undefined {
  const percent = parsePercent(text)
  if (percent !== undefined) return { kind: 'percent', percent }
  const bytes = text === '0' ? 0 : parseBytes(text)
  return bytes === undefined ? undefined : { kind: 'bytes', bytes }
}

function parseMaxSize(text: string): SizeConfig | undefined {
  const size = parseSize(text)
  if (size?.kind === 'bytes') return size.bytes >= MAX_SIZE_MIN ? size : undefined
  return size === undefined || size.percent === 0 ? undefined : size
}

function parseShare(text: string): number | undefined {
  const percent = parsePercent(text)
  return percent === undefined ? undefined : percent / 100
}

function parsePercent(text: string): number | undefined {
  const [, digits] = /^([0-9]{1,3}(?:\.[0-9]{1,2})?) ?%$/.exec(text) ?? []
  return digits === undefined || Number(digits) > 100 ? undefined : Number(digits)
}

const INTERVAL_MS = 7 * 24 * 3_600_000
const INTERVAL_MIN_MS = 60_000
const INTERVAL_MAX_MS = 10 * 366 * 24 * 3_600_000
const RATE_BYTES = 16 * 1024 ** 2
const RATE_MIN_BYTES = 64 * 1024
const RATE_MAX_BYTES = 1024 ** 4

/** Reads the settings of background verification, which is off by default with S3: it checks its own data. */
export function readScrub(reader: SettingsReader, kind: StoreConfig['kind'] | undefined): ScrubConfig {
  const interval = reader.parse(reader.find('scrub-interval'), parseInterval)
  const rateBytes = reader.parse(reader.find('scrub-rate'), parseRate)
  return {
    intervalMs: interval === 'off' ? undefined : (interval ?? (kind === 's3' ? undefined : INTERVAL_MS)),
    bytesPerSecond: rateBytes ?? RATE_BYTES,
  }
}

function parseInterval(text: string): number | 'off' | undefined {
  if (text === 'off' || text === '0') return 'off'
  const intervalMs = parseDuration(text)
  if (intervalMs === 0) return 'off'
  const isFit = intervalMs !== undefined && intervalMs >= INTERVAL_MIN_MS && intervalMs <= INTERVAL_MAX_MS
  return isFit ? intervalMs : undefined
}

function parseRate(text: string): number | undefined {
  const rateBytes = parseBytes(text)
  const isFit = rateBytes !== undefined && rateBytes >= RATE_MIN_BYTES && rateBytes <= RATE_MAX_BYTES
  return isFit ? rateBytes : undefined
}
