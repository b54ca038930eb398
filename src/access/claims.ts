import type { JWTPayload } from 'jose'
import { matchesGlob } from '../oci/name-pattern.ts'

const IDENTITY_LENGTH_MAX = 512

/**
 * The value of a claim as text; `undefined` for one that is missing or no single value. A name with slashes
 * is the claim of that very name or, if there is none, a path into nested claims.
 */
function claimText(payload: JWTPayload, claim: string): string | undefined {
  const value = claimValue(payload, claim)
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? String(value)
    : undefined
}

/** The texts of a claim that is a list. */
export function claimTexts(payload: JWTPayload, claim: string): readonly string[] {
  const value = claimValue(payload, claim)
  return Array.isArray(value) ? value.filter(item => typeof item === 'string') : []
}

function claimValue(payload: JWTPayload, claim: string): unknown {
  if (Object.hasOwn(payload, claim)) return payload[claim]
  // The first name may have slashes and dots itself, as `kubernetes.io` does.
  return claim.split('/').reduce<unknown>((at, key) => {
    const isObject = typeof at === 'object' && at !== null && Object.hasOwn(at, key)
    return isObject ? (at as Record<string, unknown>)[key] : undefined
  }, payload)
}

/** The name of the first required claim that the token does not have with an accepted value. */
export function missingClaim(
  payload: JWTPayload,
  required: ReadonlyMap<string, readonly string[]>,
): string | undefined {
  for (const [claim, globs] of required) {
    const text = claimText(payload, claim)
    if (text === undefined || !globs.some(glob => matchesGlob(glob, text))) return claim
  }
  return undefined
}

/**
 * Fills the claims of a token into a template such as `{repository}@{ref}`. Characters that stand in the
 * template itself, and those that no rule can hold, are escaped in claims: nobody who can choose a value,
 * such as the name of a branch, can move the borders between the parts. `undefined` if a claim is missing or
 * empty.
 */
export function fillTemplate(template: string, payload: JWTPayload): string | undefined {
  const fixed = new Set(template.replace(PLACEHOLDER, ''))
  let isWhole = true
  const name = template.replace(PLACEHOLDER, (_, claim: string) => {
    const text = claimText(payload, claim) ?? ''
    isWhole &&= text !== ''
    return escaped(text, fixed)
  })
  return isWhole && name.length <= IDENTITY_LENGTH_MAX ? name : undefined
}

const PLACEHOLDER = /\{([^{}]+)\}/g

function escaped(text: string, fixed: ReadonlySet<string>): string {
  return Array.from(text)
    .map(character => (isPlain(character) && !fixed.has(character) ? character : escapedBytes(character)))
    .join('')
}

function isPlain(character: string): boolean {
  return /[!-~]/.test(character) && !'%*'.includes(character)
}

function escapedBytes(character: string): string {
  return [...Buffer.from(character)]
    .map(byte => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
    .join('')
}
