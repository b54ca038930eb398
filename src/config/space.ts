import { parseBytes } from '../lib/bytes.ts'
import type { SizeConfig, SpaceConfig } from './config.ts'
import type { SettingsReader } from './reader.ts'
import type { Flag } from './settings.ts'

const BOUNDS: ReadonlySet<Flag> = new Set<Flag>(['max-size', 'min-free', 'dynamic-share'])

/** Whether a flag says how much room a cache on a file system may take. */
export function isBound(flag: Flag): boolean {
  return BOUNDS.has(flag)
}

/** Reads how much room the cache may take. */
export function readSpace(reader: SettingsReader): SpaceConfig {
  return {
    maxSize: reader.parse(reader.find('max-size'), parseMaxSize),
    minFree: reader.parse(reader.find('min-free'), parseSize),
    dynamicShare: reader.parse(reader.find('dynamic-share'), parseShare) ?? DYNAMIC_SHARE,
  }
}

const MAX_SIZE_MIN = 1024 * 1024
const DYNAMIC_SHARE = 0.2

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
