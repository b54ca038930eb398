import type { Grant, Right } from '../oci/identity.ts'
import { parseRuleNames } from '../oci/rules/rule-names.ts'

/** A robot token, without its secret. */
export interface Robot {
  readonly id: string
  readonly name: string
  readonly grants: readonly Grant[]
  /** SHA-256 of the token, in hex. */
  readonly sha256: string
  readonly createdAtMs: number
  readonly createdBy: string
  /** `undefined` for a token without an end. */
  readonly expiresAtMs: number | undefined
  readonly lastUsedAtMs: number | undefined
}

/** Words of rights, each with itself and the lesser rights that it includes. */
const RIGHTS: ReadonlyMap<string, readonly Right[]> = new Map([
  ['pull', ['pull']],
  ['push', ['pull', 'push']],
  ['delete', ['delete']],
  ['admin', ['admin']],
])

/**
 * Reads the right of a robot, such as `push:docker.io/acme/**` or `admin`. The right to push includes the
 * right to pull. `undefined` means that the text is not one.
 */
export function parseGrants(text: string): readonly Grant[] | undefined {
  const colon = text.indexOf(':')
  const word = colon === -1 ? text : text.slice(0, colon)
  const names = parseRuleNames(colon === -1 ? '**' : text.slice(colon + 1))
  const rights = RIGHTS.get(word)
  if (names === undefined || rights === undefined || (word === 'admin' && colon !== -1)) return undefined
  return rights.map(right => ({ right, names }))
}

/** A grant as {@link parseGrants} reads it. */
export function grantText({ right, names }: Grant): string {
  return right === 'admin' ? right : `${right}:${names.text}`
}

/** A name that rules can hold: it stands behind `robot:`. */
export function isRobotName(text: string): boolean {
  return /^[a-z0-9][a-z0-9._/-]{0,63}$/.test(text)
}

/** A robot as an entry of a record. */
export function robotEntry(robot: Robot): object {
  return { ...robot, grants: robot.grants.map(grantText) }
}

/** The robot of an entry; `undefined` for one that is not a robot, which gives nobody any right. */
export function parseRobot(entry: unknown): Robot | undefined {
  const fields = (entry ?? {}) as Readonly<Record<string, unknown>>
  const { id, name, sha256, createdAtMs, createdBy, expiresAtMs, lastUsedAtMs, grants } = fields
  const texts = Array.isArray(grants) ? grants.map(String) : undefined
  const parsed = texts?.map(text => parseGrants(text))
  if (typeof id !== 'string' || typeof name !== 'string' || !isRobotName(name)) return undefined
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) return undefined
  if (parsed === undefined || (expiresAtMs !== undefined && typeof expiresAtMs !== 'number')) return undefined
  // The record has each right by itself, lesser ones included.
  const own = parsed.flatMap((rights, index) =>
    (rights ?? []).filter(grant => grantText(grant) === texts?.[index]),
  )
  return {
    id,
    name,
    sha256,
    grants: own,
    createdAtMs: Number(createdAtMs) || 0,
    createdBy: typeof createdBy === 'string' ? createdBy : '',
    expiresAtMs,
    lastUsedAtMs: typeof lastUsedAtMs === 'number' ? lastUsedAtMs : undefined,
  }
}
