import { dirname, resolve } from 'node:path'
import * as z from 'zod'
import { parseWho, type WhoPattern } from '../../oci/rules/rule.ts'
import { type AuthConfig, type IssuerConfig, NO_AUTH } from '../config.ts'
import { parseBlock } from '../host.ts'
import type { Problem } from '../problem.ts'
import { parsed } from './entry.ts'
import { readUsers } from './htpasswd.ts'
import { ISSUER_KINDS, type IssuerKind } from './issuer-kinds.ts'
import { checkSection, type NamedFile, type ReadSection, type ShownValue, sectionProblem } from './section.ts'
import type { YamlSection } from './yaml-file.ts'

const PATH = parsed(
  text => (text !== '' && !text.includes('\0') ? text : undefined),
  'is not a path',
  'the path of a file',
)
const HTTPS_URL = parsed(
  text => parseUrl(text, ['https:']),
  'is not the URL of an issuer',
  'such as https://token.actions.githubusercontent.com',
)
const REALM = parsed(
  text => parseUrl(text, ['https:', 'http:']),
  'is not a URL',
  'such as https://mirror.example.com/token',
)
const MEMBER = parsed(parseWho, 'names nobody', 'a user, or such as github:acme/*@refs/heads/main')
const NAME = parsed(
  text => (/^[a-z0-9][a-z0-9-]{0,31}$/.test(text) && !TAKEN.has(text) ? text : undefined),
  'is not a name for an issuer',
  'lower-case letters, digits and dashes, and not robot, cert or group',
)
const TEMPLATE = parsed(
  text => (/^(?:[!-z|~]|\{[!-z|~]+\})+$/.test(text) && text.includes('{') ? text : undefined),
  'is not a template',
  'claims in braces, such as {repository}@{ref}',
)

const TAKEN: ReadonlySet<string> = new Set(['robot', 'cert', 'group'])

const ISSUER = z.strictObject({
  kind: z.enum(['github', 'gitlab', 'kubernetes']).optional(),
  name: NAME.optional(),
  issuer: HTTPS_URL.optional(),
  jwks: HTTPS_URL.optional(),
  audience: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]),
  identity: TEMPLATE.optional(),
  require: z.record(z.string(), z.union([z.string(), z.array(z.string()).min(1)])).optional(),
  groups_claim: z.string().optional(),
  ca_file: PATH.optional(),
  token_file: PATH.optional(),
  allow_addresses: z
    .array(parsed(parseBlock, 'is not a block of addresses', 'such as 10.0.0.0/8'))
    .optional(),
})

const AUTH = z.strictObject({
  htpasswd_file: PATH.optional(),
  groups: z.record(z.string(), z.array(MEMBER)).optional(),
  generations: z.record(z.string(), z.int().min(0).max(1_000_000)).optional(),
  issuers: z.array(ISSUER).optional(),
  realm: REALM.optional(),
  challenge: z.enum(['auto', 'needed', 'always']).optional(),
})

/** Reads the section `auth`, and the file of users that it names. */
export function readAuth(section: YamlSection | undefined, file: NamedFile): ReadSection<AuthConfig> {
  if (section === undefined) return { value: NO_AUTH, shown: [], problems: [] }
  const { value = {}, problems } = checkSection(section, AUTH, file)
  const { htpasswd_file: path, issuers = [] } = value
  const { users, problems: lines } =
    path === undefined ? { users: new Map<string, string>(), problems: [] } : readUsers(path, file)
  const read = issuers.map((issuer, index) => readIssuer(issuer, index, { section, file }))
  const auth: AuthConfig = {
    htpasswdFile: path === undefined ? undefined : resolve(dirname(file.path), path),
    users,
    groups: entriesOf<readonly WhoPattern[]>(value.groups),
    generations: entriesOf(value.generations),
    issuers: read.flatMap(({ issuer }) => (issuer === undefined ? [] : [issuer])),
    realm: value.realm,
    challenge: value.challenge ?? NO_AUTH.challenge,
  }
  const wrong = [...read.flatMap(each => each.problems), ...namedTwice(auth, { section, file })]
  return {
    value: auth,
    shown: shownAuth(auth, { section, file }),
    problems: [...problems, ...lines, ...wrong],
  }
}

interface Where {
  readonly section: YamlSection
  readonly file: NamedFile
}

function readIssuer(
  given: z.output<typeof ISSUER>,
  index: number,
  { section, file }: Where,
): { readonly issuer: IssuerConfig | undefined; readonly problems: readonly Problem[] } {
  const preset: IssuerKind = given.kind === undefined ? {} : ISSUER_KINDS[given.kind]
  const name = given.name ?? preset.name
  const issuer = given.issuer ?? preset.issuer
  const identity = given.identity ?? preset.identity
  const at = (path: string | undefined): string | undefined =>
    path === undefined ? undefined : resolve(dirname(file.path), path)
  const missing = Object.entries({ name, issuer, identity }).flatMap(([key, value]) =>
    value === undefined
      ? [sectionProblem(section, file, ['issuers', index], { message: `needs ${key}`, hint: undefined })]
      : [],
  )
  if (name === undefined || issuer === undefined || identity === undefined)
    return { issuer: undefined, problems: missing }
  return {
    problems: [],
    issuer: {
      name,
      issuer,
      identity,
      jwksUrl: given.jwks,
      audiences: listOf(given.audience),
      requiredClaims: new Map(
        Object.entries(given.require ?? {}).map(([claim, globs]) => [claim, listOf(globs)] as const),
      ),
      groupsClaim: given.groups_claim,
      caFile: at(given.ca_file ?? preset.caFile),
      tokenFile: at(given.token_file ?? preset.tokenFile),
      allowAddresses: given.allow_addresses ?? [],
    },
  }
}

function namedTwice({ issuers }: AuthConfig, { section, file }: Where): readonly Problem[] {
  return issuers.flatMap(({ name, issuer }, index) =>
    issuers.slice(0, index).some(other => other.name === name || other.issuer === issuer)
      ? [
          sectionProblem(section, file, ['issuers', index], {
            message: 'has the name or the URL of an earlier issuer',
            hint: 'each issuer once',
          }),
        ]
      : [],
  )
}

function shownAuth(auth: AuthConfig, { section, file }: Where): readonly ShownValue[] {
  const from = (key: string): ShownValue['origin'] => {
    return { kind: 'file', file: file.name, line: section.lineOf([key]) }
  }
  const { htpasswdFile, users, groups, generations, issuers, realm, challenge } = auth
  const values: readonly (readonly [string, string | undefined])[] = [
    ['htpasswd_file', htpasswdFile === undefined ? undefined : `${htpasswdFile} (users: ${users.size})`],
    ['groups', groups.size === 0 ? undefined : [...groups.keys()].join(', ')],
    ['generations', generations.size === 0 ? undefined : [...generations.keys()].join(', ')],
    ['issuers', issuers.length === 0 ? undefined : issuers.map(({ name }) => name).join(', ')],
    ['realm', realm],
    ['challenge', challenge],
  ]
  const shown = values.flatMap(([key, value]) =>
    value === undefined ? [] : [{ key: `  ${key}`, value, origin: from(key) }],
  )
  return [{ key: 'auth', value: '', origin: undefined }, ...shown]
}

function entriesOf<Value>(record: Readonly<Record<string, Value>> | undefined): ReadonlyMap<string, Value> {
  return new Map(Object.entries(record ?? {}))
}

function listOf(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value
}

function parseUrl(text: string, protocols: readonly string[]): string | undefined {
  const url = URL.parse(text)
  const isPlain = url !== null && url.username === '' && url.password === '' && url.hash === ''
  return isPlain && protocols.includes(url.protocol) ? text : undefined
}
