import { dirname, resolve } from 'node:path'
import * as z from 'zod'
import { parseDuration } from '../../lib/duration.ts'
import { parseNamePattern } from '../../oci/name-pattern.ts'
import { NOTICE_TYPES } from '../../oci/notice-type.ts'
import type { NotificationConfig } from '../config.ts'
import { parseBlock, parseHost } from '../host.ts'
import type { Problem } from '../problem.ts'
import { Secret } from '../secret.ts'
import { parsed, parsedOpenly } from './entry.ts'
import { checkSection, type NamedFile, type ReadSection, type ShownValue, sectionProblem } from './section.ts'
import type { YamlSection } from './yaml-file.ts'

const TIMEOUT_MS_DEFAULT = 10_000
const TIMEOUT_MS_MAX = 60_000

const ENDPOINTS = z.array(
  z.strictObject({
    name: parsed(parseName, 'is not a name', 'up to 63 lower-case letters, digits and hyphens'),
    url: parsed(parseUrl, 'is not a URL', 'such as https://ci.example.com/hook, without a user name'),
    format: z.enum(['cloudevents', 'distribution']).optional(),
    secret_file: parsed(parsePath, 'is not a path', 'the path of a file').optional(),
    events: z.array(z.enum(NOTICE_TYPES)).min(1).optional(),
    names: z
      .array(parsedOpenly(parseNamePattern, 'is not a pattern of names', 'such as docker.io/acme/**'))
      .min(1)
      .optional(),
    ca_file: parsed(parsePath, 'is not a path', 'the path of a file').optional(),
    allow_addresses: z
      .array(parsedOpenly(parseBlock, 'is not a block of addresses', 'such as 127.0.0.0/8 or fd00::/8'))
      .optional(),
    timeout: parsedOpenly(parseTimeout, 'is not a duration from 1s to 1m', 'such as 10s').optional(),
  }),
)

type EndpointEntry = z.output<typeof ENDPOINTS>[number]

/** Reads the section `notifications`: the endpoints that are told what happens. */
export function readNotifications(
  section: YamlSection | undefined,
  file: NamedFile,
): ReadSection<readonly NotificationConfig[]> {
  if (section === undefined) return { value: [], shown: [], problems: [] }
  const { value = [], problems } = checkSection(section, ENDPOINTS, file)
  return {
    value: value.map(entry => endpointOf(entry, file)),
    shown: shownEndpoints(value, section, file),
    problems: [...problems, ...namedTwice(value, section, file)],
  }
}

function endpointOf(entry: EndpointEntry, file: NamedFile): NotificationConfig {
  const at = (path: string | undefined): string | undefined =>
    path === undefined ? undefined : resolve(dirname(file.path), path)
  return {
    name: entry.name,
    url: entry.url,
    format: entry.format ?? 'cloudevents',
    secretFile: at(entry.secret_file),
    types: entry.events ?? NOTICE_TYPES,
    names: entry.names,
    caFile: at(entry.ca_file),
    allowAddresses: entry.allow_addresses ?? [],
    timeoutMs: entry.timeout ?? TIMEOUT_MS_DEFAULT,
  }
}

function namedTwice(
  entries: readonly EndpointEntry[],
  section: YamlSection,
  file: NamedFile,
): readonly Problem[] {
  return entries.flatMap(({ name }, index) => {
    const earlier = entries.findIndex(other => other.name === name)
    if (earlier === index) return []
    const message = `is ${name} again, as on line ${section.lineOf([earlier])}`
    return [sectionProblem(section, file, [index, 'name'], { message, hint: 'one name for each endpoint' })]
  })
}

/** The URL is not shown: it may hold a token. */
function shownEndpoints(
  entries: readonly EndpointEntry[],
  section: YamlSection,
  file: NamedFile,
): readonly ShownValue[] {
  const rows = entries.flatMap((entry, index) => {
    const originOf = (key: string): ShownValue['origin'] => ({
      kind: 'file',
      file: file.name,
      line: section.lineOf([index, key]),
    })
    const given = Object.entries(entry).filter(([, value]) => value !== undefined)
    return given.map(([key, value]) => ({
      key: `${key === 'name' ? '  - ' : '    '}${key}`,
      value: textOf(value),
      origin: originOf(key),
    }))
  })
  return [{ key: section.name, value: rows.length === 0 ? '[]' : '', origin: undefined }, ...rows]
}

function textOf(value: unknown): string {
  if (value instanceof Secret) return '[redacted]'
  if (typeof value === 'number') return `${value / 1000}s`
  if (!Array.isArray(value)) return String(value)
  return `[${value.map(item => (typeof item === 'string' ? item : (item as { text: string }).text)).join(', ')}]`
}

function parseName(text: string): string | undefined {
  return /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text) ? text : undefined
}

function parseUrl(text: string): Secret | undefined {
  const [, authority = ''] = /^https?:\/\/([^/?#]+)(?:[/?][\x21-\x7e]*)?$/.exec(text) ?? []
  return parseHost(authority) === undefined ? undefined : new Secret(text)
}

function parsePath(text: string): string | undefined {
  return text !== '' && !text.includes('\0') ? text : undefined
}

function parseTimeout(text: string): number | undefined {
  const timeoutMs = parseDuration(text)
  return timeoutMs === undefined || timeoutMs < 1000 || timeoutMs > TIMEOUT_MS_MAX ? undefined : timeoutMs
}
