import { parseDuration } from '../lib/duration.ts'
import type { Config } from './config.ts'
import { formatListen, isLocal } from './listen.ts'
import { formatOrigin } from './problem.ts'
import type { SettingsReader } from './reader.ts'
import type { Flag } from './settings.ts'

const WITHOUT_EFFECT = [
  'blob-chunk-read-timeout',
  'blob-chunk-write-timeout',
  'manifest-invalidation-time',
  'blob-invalidation-time',
] as const satisfies readonly Flag[]

/** Names the options of oci-registry that have nothing to set here, which are checked like any other, and secrets on the command line. */
export function compatibilityNotices(reader: SettingsReader): string[] {
  const notices: string[] = []
  for (const flag of WITHOUT_EFFECT) {
    const given = reader.find(flag)
    if (given === undefined) continue
    reader.parse(given, parseDuration)
    const isPerUpstream = flag.endsWith('invalidation-time')
    const instead = isPerUpstream ? `; set ${flag.replaceAll('-', '_')} in the upstream file` : ''
    notices.push(`${formatOrigin(given.origin)} is accepted and has no effect${instead}`)
  }
  for (const flag of ['upstream-credentials', 'secret-key'] as const) {
    if (reader.find(flag)?.origin.kind !== 'flag') continue
    notices.push(`--${flag} on the command line can be read by every user of this machine`)
  }
  return notices
}

/** What a valid configuration exposes to whom. */
export function riskNotices(config: Config): string[] {
  const found: string[] = []
  const hasCredentials = config.upstreams.some(upstream => upstream.credentials !== undefined)
  if (hasCredentials && !isLocal(config.listen)) {
    const listen = formatListen(config.listen)
    found.push(`everybody who can connect to ${listen} can pull what the configured credentials can pull`)
  }
  if (config.adminListen !== undefined && !isLocal(config.adminListen)) {
    const admin = formatListen(config.adminListen)
    found.push(`everybody who can connect to ${admin} can delete from the cache`)
  }
  if (config.namespaces === 'configured' && config.upstreams.length === 0) {
    found.push('--namespaces configured without any configured upstream mirrors nothing')
  }
  return found
}
