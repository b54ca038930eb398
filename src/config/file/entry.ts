import * as z from 'zod'
import { parseDuration } from '../../lib/duration.ts'
import { parseConfiguredNamespace } from '../../oci/namespace.ts'
import { hostHint, parseBlock, parseHost } from '../host.ts'
import { parseEntryProxy } from '../proxy.ts'
import { Secret } from '../secret.ts'

/** Why a value is refused, as the rest of a sentence that begins with its path, and a correct value. */
export interface Refusal {
  readonly message: string
  readonly hint: string | undefined
}

/** One entry of the upstream file. It checks single values; `contradictions.ts` checks combinations. */
export const ENTRY = z.strictObject({
  namespace: parsed(parseConfiguredNamespace, 'is not a namespace', namespaceHint),
  host: parsed(parseHost, 'is not a host', hostHint),
  tls: z.boolean().optional(),
  accept_invalid_certs: z.boolean().optional(),
  ca_file: path(),
  client_cert_file: path(),
  client_key_file: path(),
  user_agent: parsed(parseHeaderText, 'is not valid in a header', 'use printable ASCII').optional(),
  username: parsed(parseUsername, 'is not a user name', 'without colons and control characters').optional(),
  password: parsed(parseSecret, 'is not a password', 'not empty, without control characters').optional(),
  password_file: path(),
  docker_config: path(),
  manifest_invalidation_time: duration(),
  blob_invalidation_time: duration(),
  stale_if_error: duration(),
  revalidation_wait: duration(),
  deleted_tags: parsedOpenly(parseDeletedTags, 'is not keep or forget', 'write keep or forget').optional(),
  silence_max: parsedOpenly(parseSilence, 'is not a duration from 1s to 1h', 'such as 45s or 2m').optional(),
  allow_addresses: listOf(
    parsedOpenly(parseBlock, 'is not a block of addresses', 'such as 127.0.0.0/8 or fd00::/8'),
  ),
  realms: listOf(parsed(parseHost, 'is not a host', hostHint)),
  retry_after_max: duration(),
  allow_http_redirects: z.boolean().optional(),
  proxy: parsed(
    parseEntryProxy,
    'is not the URL of a proxy',
    'such as http://proxy.example:3128, or none',
  ).optional(),
})

/** The values of one entry, without those that the file leaves out. */
export type Entry = z.output<typeof ENTRY>

/** The keys that an entry may have. */
export type EntryKey = keyof typeof ENTRY.shape

/** All keys of an entry, in the order of the documentation. */
export const ENTRY_KEYS = Object.keys(ENTRY.shape) as readonly EntryKey[]

/** Value of one namespace in `UPSTREAM_CREDENTIALS`, in the format of oci-registry. */
export const CREDENTIALS = z.strictObject({
  username: parsed(parseUsername, 'is not a user name', 'without colons and control characters'),
  password: parsed(parseSecret, 'is not a password', 'not empty, without control characters'),
})

/** Names of the types, for messages about a value of another type. */
const WANTED = {
  boolean: { phrase: 'true or false', hint: 'write true or false' },
  text: { phrase: 'text', hint: 'put it in quotes' },
  duration: { phrase: 'a duration', hint: 'write it with its unit, such as 0s, 90s, 14d or 1h 30m' },
  list: { phrase: 'a list', hint: 'write it in brackets, such as [127.0.0.0/8]' },
} as const

const WANTED_OF: ReadonlyMap<string, keyof typeof WANTED> = new Map([
  ['tls', 'boolean'],
  ['accept_invalid_certs', 'boolean'],
  ['manifest_invalidation_time', 'duration'],
  ['blob_invalidation_time', 'duration'],
  ['stale_if_error', 'duration'],
  ['revalidation_wait', 'duration'],
  ['silence_max', 'duration'],
  ['allow_addresses', 'list'],
  ['realms', 'list'],
  ['retry_after_max', 'duration'],
  ['allow_http_redirects', 'boolean'],
] as const)

const YAML_1_1_BOOLEANS: ReadonlySet<string> = new Set(['yes', 'no', 'on', 'off', 'y', 'n'])

/** Explains why the schema refused a value of an entry, without repeating the value. */
export function explainIssue(issue: z.core.$ZodIssue, value: unknown): Refusal {
  if (issue.code === 'custom') return { message: issue.message, hint: hintOf(issue) }
  const key = String(issue.path[0] ?? '')
  const wanted = WANTED[issue.path.length > 1 ? 'text' : (WANTED_OF.get(key) ?? 'text')]
  const found = describe(value)
  if (wanted === WANTED.boolean && typeof value === 'string') {
    const word = value.toLowerCase()
    const text = YAML_1_1_BOOLEANS.has(word) ? `the text "${word}"` : 'text'
    return { message: `must be true or false, not ${text}`, hint: 'write true or false, without quotes' }
  }
  const isCollection = Array.isArray(value) || (typeof value === 'object' && value !== null)
  const hint = wanted === WANTED.text && isCollection ? undefined : wanted.hint
  return { message: `must be ${wanted.phrase}, not ${found}`, hint }
}

function describe(value: unknown): string {
  if (typeof value === 'string') return 'text'
  if (typeof value === 'number' || typeof value === 'bigint') return 'a number'
  if (typeof value === 'boolean') return 'true or false'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' && value !== null ? 'a map' : 'nothing'
}

function hintOf(issue: z.core.$ZodIssueCustom): string | undefined {
  const hint: unknown = issue.params?.['hint']
  return typeof hint === 'string' ? hint : undefined
}

/** A text, or one that depends on the value. */
type Hint = string | ((text: string) => string)

/** Text that a parser turns into a value; what it cannot read is refused with a message and a hint. */
export function parsed<T>(
  parse: (text: string) => T | undefined,
  message: Hint,
  hint: Hint,
): z.ZodPipe<z.ZodString, z.ZodTransform<Awaited<T>, string>> {
  return z.string().transform((text, context) => {
    const value = parse(text)
    if (value !== undefined) return value as Awaited<T>
    context.addIssue({
      code: 'custom',
      message: textFor(text, message),
      params: { hint: textFor(text, hint) },
    })
    return z.NEVER
  })
}

function textFor(value: string, hint: Hint): string {
  return typeof hint === 'string' ? hint : hint(value)
}

/** As {@link parsed}, for values that are no secret: what cannot be read is quoted. */
export function parsedOpenly<T>(
  parse: (text: string) => T | undefined,
  message: string,
  hint: Hint,
): ReturnType<typeof parsed<T>> {
  return parsed(parse, text => `${message}${quoted(text)}`, hint)
}

const QUOTED_MAX = 40

/** A text as the end of a message, unless a login may have strayed into it. */
function quoted(text: string): string {
  return text.length > QUOTED_MAX || /@|:\/\//.test(text) ? '' : `: ${JSON.stringify(text)}`
}

function parseSilence(text: string): number | undefined {
  const silenceMs = parseDuration(text)
  return silenceMs === undefined || silenceMs < 1000 || silenceMs > 3_600_000 ? undefined : silenceMs
}

function parseDeletedTags(text: string): 'keep' | 'forget' | undefined {
  return text === 'keep' || text === 'forget' ? text : undefined
}

function duration(): z.ZodOptional<z.ZodPipe<z.ZodString, z.ZodTransform<number, string>>> {
  return parsedOpenly(parseDuration, 'is not a duration', 'such as 0s, 90s, 14d or 1h 30m').optional()
}

function path(): z.ZodOptional<z.ZodPipe<z.ZodString, z.ZodTransform<string, string>>> {
  return parsed(parsePath, 'is not a path', 'the path of a file').optional()
}

function listOf<T extends z.ZodType>(item: T): z.ZodOptional<z.ZodArray<T>> {
  return z.array(item).optional()
}

function parseHeaderText(text: string): string | undefined {
  return /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text) ? text : undefined
}

/** RFC 7617, section 2: a user name holds no colon, and neither holds control characters. */
function parseUsername(text: string): string | undefined {
  return text !== '' && !text.includes(':') && !/\p{Cc}/u.test(text) ? text : undefined
}

function parseSecret(text: string): Secret | undefined {
  return text !== '' && !/\p{Cc}/u.test(text) ? new Secret(text) : undefined
}

function parsePath(text: string): string | undefined {
  return text !== '' && !text.includes('\0') ? text : undefined
}

function namespaceHint(text: string): string {
  return text.includes('/') ? hostHint(text) : 'the registry as clients name it, such as quay.io'
}
