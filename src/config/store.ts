import { resolve } from 'node:path'
import { parseBytes } from '../lib/bytes.ts'
import type { StoreConfig } from './config.ts'
import { parseHost } from './host.ts'
import { parseBoolean, type SettingsReader } from './reader.ts'
import { Secret } from './secret.ts'
import { isBound, isBucketBound } from './upkeep.ts'

/** The stores that a sub-command names. */
export type StoreKind = StoreConfig['kind']

/** Reads the settings of the store. A flag of another store is a problem. */
export function readStore(reader: SettingsReader, kind: StoreKind | undefined, cwd: string): StoreConfig {
  for (const group of ['filesystem', 's3'] as const) {
    if (group === kind) continue
    for (const given of reader.flagsOf(group)) {
      // Without a sub-command the store is a directory, so its limits need no sub-command either.
      if (kind === undefined && isBound(given.flag)) continue
      if (kind === 's3' && isBucketBound(given.flag)) continue
      const message = `belongs to the sub-command ${group}`
      reader.refuse(given, message, `entrepot ${group} --${given.flag} …`)
    }
  }
  if (kind === 's3') return readS3(reader, cwd)
  return { kind: 'filesystem', root: readDirectory(reader, { flag: 'root', otherwise: DEFAULT_ROOT, cwd }) }
}

const DEFAULT_ROOT = './data'
const DEFAULT_SPOOL_DIRECTORY = './data/spool'

function readDirectory(
  reader: SettingsReader,
  {
    flag,
    otherwise,
    cwd,
  }: { readonly flag: 'root' | 'spool-dir'; readonly otherwise: string; readonly cwd: string },
): string {
  const path = reader.parse(reader.find(flag), text => (text.includes('\0') ? undefined : text))
  return resolve(cwd, path ?? otherwise)
}

function readS3(reader: SettingsReader, cwd: string): StoreConfig {
  const bucketGiven = reader.find('bucket')
  const endpoint = reader.parse(reader.find('host'), parseEndpoint)
  const accessKeyGiven = reader.find('access-key')
  const secretKeyGiven = reader.find('secret-key')
  const accessKey = reader.parse(accessKeyGiven, parseKey)
  const secretKey = reader.parse(secretKeyGiven, parseKey)
  if (bucketGiven === undefined) {
    const origin = { kind: 'command-line' } as const
    const hint = 'give --bucket or S3_BUCKET'
    reader.problems.push({ origin, path: 'bucket', message: 'is required by the sub-command s3', hint })
  }
  const redirectHostGiven = reader.find('redirect-host')
  const isRedirecting = reader.parse(reader.find('redirect'), parseBoolean) ?? false
  if (redirectHostGiven !== undefined && !isRedirecting) {
    reader.refuse(redirectHostGiven, 'is given without --redirect', 'it has no effect alone')
  }
  const alone = accessKeyGiven ?? secretKeyGiven
  if (alone !== undefined && (accessKeyGiven === undefined || secretKeyGiven === undefined)) {
    const other = accessKeyGiven === undefined ? 'access-key' : 'secret-key'
    reader.refuse(
      alone,
      `is given without --${other}`,
      "give both, or neither for the SDK's credential chain",
    )
  }
  return {
    kind: 's3',
    bucket: reader.parse(bucketGiven, matching(/^[A-Za-z0-9._-]{1,255}$/)) ?? '',
    region: reader.parse(reader.find('region'), matching(/^[A-Za-z0-9-]{1,64}$/)) ?? 'us-east-1',
    endpoint,
    accessKey,
    secretKey,
    prefix: reader.parse(reader.find('prefix'), parsePrefix) ?? '',
    isPathStyle: reader.parse(reader.find('path-style'), parseBoolean) ?? endpoint !== undefined,
    spoolDirectory: readDirectory(reader, { flag: 'spool-dir', otherwise: DEFAULT_SPOOL_DIRECTORY, cwd }),
    copiesBytes: reader.parse(reader.find('s3-cache'), parseCopies) ?? 0,
    isRedirecting,
    redirectEndpoint: reader.parse(redirectHostGiven, parseEndpoint),
  }
}

const COPIES_MIN_BYTES = 16 * 1024 * 1024

function parseCopies(text: string): number | undefined {
  const bytes = text === '0' ? 0 : parseBytes(text)
  return bytes === 0 || (bytes !== undefined && bytes >= COPIES_MIN_BYTES) ? bytes : undefined
}

/** Accepts `host:port` too, like oci-registry, and then uses https. */
function parseEndpoint(text: string): string | undefined {
  const [, scheme = 'https', authority = ''] = /^(?:(https?):\/\/)?([^/]*)\/?$/i.exec(text) ?? []
  const host = parseHost(authority)
  return host === undefined ? undefined : `${scheme.toLowerCase()}://${host}`
}

function parseKey(text: string): Secret | undefined {
  return /^[\x21-\x7e]+$/.test(text) ? new Secret(text) : undefined
}

function parsePrefix(text: string): string | undefined {
  if (text.length > 512 || /\p{Cc}/u.test(text)) return undefined
  const trimmed = text.replace(/^\/+|\/+$/g, '')
  return trimmed === '' ? '' : `${trimmed}/`
}

function matching(pattern: RegExp): (text: string) => string | undefined {
  return text => (pattern.test(text) ? text : undefined)
}
