import { grantText, isRobotName, parseGrants, type Robot } from '../access/robot-record.ts'
import type { Robots } from '../access/robots.ts'
import { explainDecision, type RuledAccess } from '../access/ruled-access.ts'
import type { Clock } from '../lib/clock.ts'
import type { Directory } from '../mirror/sources.ts'
import { OciError } from '../oci/error.ts'
import type { Grant, Identity } from '../oci/identity.ts'
import type { NameRules, Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import { qualifyNames } from '../oci/rules/rule-names.ts'
import type { AdminAnswers, ExplainedAccess, TokenReport } from './contract.ts'
import { isoOf } from './times.ts'

const DAY_MS = 24 * 3_600_000
const DAYS_MAX = 3650

/** Parts of the endpoints about senders. */
export interface RobotTokenParts {
  readonly clock: Pick<Clock, 'wallMs'>
  readonly robots: Robots
  readonly access: Pick<RuledAccess, 'rules' | 'identityNamed' | 'identify'>
  readonly directory: () => Directory
  /** Rules in force for resolving names; hosted namespaces are among them. */
  readonly names: () => NameRules
  /** The administrator who asks. */
  readonly actor?: string
}

/** All robot tokens, without their secrets. */
export async function listTokens({ robots }: RobotTokenParts): Promise<AdminAnswers['GET tokens']> {
  await robots.refresh()
  return { tokens: robots.list().map(reportOf) }
}

/** Creates a token. The answer has its secret, which is never shown again. */
export async function createToken(
  { clock, robots, names, actor = 'administrator' }: RobotTokenParts,
  query: URLSearchParams,
): Promise<AdminAnswers['POST tokens']> {
  const name = query.get('for') ?? ''
  if (!isRobotName(name))
    throw new OciError(
      'REQUEST_INVALID',
      'for must be a name of lower-case letters, digits, ".", "_", "-", "/"',
    )
  const texts = query.getAll('may')
  if (texts.length === 0)
    throw new OciError('REQUEST_INVALID', 'may is missing, such as push:docker.io/acme/**')
  const grants = texts.flatMap(text => grantsOf(text, names()))
  const expiresAtMs = expiryOf(query.get('days'), clock.wallMs())
  const { robot, token } = await robots.create({ name, grants, createdBy: actor, expiresAtMs })
  return { ...reportOf(robot), token }
}

/** Ends a token, or all tokens of a robot. */
export async function revokeTokens(
  { robots }: RobotTokenParts,
  query: URLSearchParams,
): Promise<AdminAnswers['DELETE tokens']> {
  const ended = await robots.revoke(query.get('token') ?? '')
  if (ended.length === 0) throw new OciError('NAME_UNKNOWN', 'no token has this id, and no robot this name')
  return { revoked: ended.map(reportOf) }
}

/** What an identity may do to an image, and which rows say so. */
export function explainAccess(
  { robots, access }: Pick<RobotTokenParts, 'robots' | 'access'>,
  name: string,
  { place, reference }: { readonly place: Place; readonly reference: Reference },
): ExplainedAccess {
  const identity = identityOf(name, { robots, access })
  const decisions = (['pull', 'push', 'delete'] as const).map(right =>
    explainDecision(right, access.rules.decide({ identity, right, place, reference })),
  )
  return { as: identity.name, groups: identity.groups, decisions }
}

/** The identity of a name. A robot has the rights of all of its tokens. */
function identityOf(name: string, { robots, access }: Pick<RobotTokenParts, 'robots' | 'access'>): Identity {
  if (!/^[!-~]{1,512}$/.test(name))
    throw new OciError('REQUEST_INVALID', 'as must be a name, as rules write it')
  const own = robots.list().filter(robot => `robot:${robot.name}` === name)
  const grants = own.flatMap(robot => robot.grants)
  return { ...access.identityNamed(name), ...(grants.length === 0 ? {} : { grants }) }
}

function grantsOf(text: string, rules: NameRules): readonly Grant[] {
  const grants = parseGrants(text)
  if (grants === undefined)
    throw new OciError(
      'REQUEST_INVALID',
      'may must be a right and names, such as pull:docker.io/acme/app, push:acme/** or admin',
    )
  return grants.map(({ right, names }) => ({ right, names: qualifyNames(names, rules) }))
}

function expiryOf(days: string | null, nowMs: number): number | undefined {
  if (days === null) return undefined
  const count = /^[0-9]{1,4}$/.test(days) ? Number(days) : 0
  if (count < 1 || count > DAYS_MAX)
    throw new OciError('REQUEST_INVALID', `days must be a whole number from 1 to ${DAYS_MAX}`)
  return nowMs + count * DAY_MS
}

function reportOf(robot: Robot): TokenReport {
  const { id, name, grants, createdAtMs, createdBy, expiresAtMs, lastUsedAtMs } = robot
  return {
    id,
    name: `robot:${name}`,
    may: grants.map(grantText),
    createdAt: isoOf(createdAtMs),
    createdBy,
    expiresAt: expiresAtMs === undefined ? undefined : isoOf(expiresAtMs),
    lastUsedAt: lastUsedAtMs === undefined ? undefined : isoOf(lastUsedAtMs),
  }
}
