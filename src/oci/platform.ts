import { type Digest, parseDigest } from './digest.ts'

/** A platform as clients write it: `linux/amd64`, `linux/arm64/v8`. */
export type Platform = string

/**
 * Platforms stated by an image index, by the digest of the manifest; `undefined` for a manifest without a
 * platform.
 */
export function platformsOf(index: Uint8Array): ReadonlyMap<Digest, Platform> {
  const document = parse(index)
  const platforms = new Map<Digest, Platform>()
  if (!Array.isArray(document?.manifests)) return platforms
  for (const entry of document.manifests as readonly Partial<IndexEntry>[]) {
    const digest = parseDigest(String(entry?.digest))
    const { os, architecture, variant } = entry?.platform ?? {}
    if (digest === undefined || typeof os !== 'string' || typeof architecture !== 'string') continue
    platforms.set(digest, platformText(os, architecture, variant))
  }
  return platforms
}

/** Platform stated by the configuration of an image; `undefined` if it states none. */
export function platformOfConfig(config: Uint8Array): Platform | undefined {
  const { os, architecture, variant } = (parse(config) ?? {}) as Partial<Record<string, unknown>>
  if (typeof os !== 'string' || typeof architecture !== 'string') return undefined
  return platformText(os, architecture, variant)
}

function platformText(os: string, architecture: string, variant: unknown): Platform {
  const tail = typeof variant === 'string' && variant !== '' ? `/${variant}` : ''
  return `${os}/${architecture}${tail}`
}

/** True if a platform matches a requested one. A request without a variant matches any variant. */
export function isPlatform(actual: Platform, wanted: Platform): boolean {
  return (
    actual === wanted ||
    actual.startsWith(`${wanted}/`) ||
    (wanted === 'linux/arm64/v8' && actual === 'linux/arm64')
  )
}

/** Parses `os/architecture[/variant]`; `undefined` for anything else. */
export function parsePlatform(text: string): Platform | undefined {
  return /^[a-z0-9]+\/[a-z0-9]+(?:\/[a-z0-9.]+)?$/.test(text) ? text : undefined
}

interface IndexEntry {
  readonly digest: unknown
  readonly platform:
    | { readonly os?: unknown; readonly architecture?: unknown; readonly variant?: unknown }
    | undefined
}

function parse(bytes: Uint8Array): { readonly manifests?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}
