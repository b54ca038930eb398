import type { Identity, Right } from '../identity.ts'
import { matchesComponents, matchesGlob } from '../name-pattern.ts'
import type { RuleNames } from './rule-names.ts'

/**
 * One row of the rules: whether these senders have these rights to these names. Plain data, so that it can
 * cross threads.
 */
export interface Rule {
  readonly who: readonly WhoPattern[]
  readonly names: readonly RuleNames[]
  readonly rights: readonly Right[]
  readonly isAllowed: boolean
  /** Told to the client. */
  readonly reason: string | undefined
  /** The line of the file that the row begins on. */
  readonly line: number
}

/** A pattern of senders: a word, a group, or a name, in which `*` stands for characters of a component. */
export type WhoPattern =
  | { readonly kind: 'everyone' | 'authenticated' }
  | { readonly kind: 'group'; readonly group: string }
  | { readonly kind: 'name'; readonly issuer: string; readonly components: readonly string[] }

const WHO_LENGTH_MAX = 512
const WHO = /^[!-~]+$/

/**
 * The only way to make a {@link WhoPattern}. The words are `everyone`, who may be anonymous, and
 * `authenticated`; `group:NAME` is a group; the rest are names, such as `alice`, `robot:*` or
 * `github:acme/*@refs/heads/main`. What stands before the colon is taken literally.
 */
export function parseWho(text: string): WhoPattern | undefined {
  if (!WHO.test(text) || text.length > WHO_LENGTH_MAX) return undefined
  if (text === 'everyone' || text === 'authenticated') return { kind: text }
  const { issuer, name } = splitName(text)
  if (name === '' || issuer.includes('*') || /^\*+$/.test(text)) return undefined
  if (issuer === 'group') return { kind: 'group', group: name }
  return { kind: 'name', issuer, components: name.split('/') }
}

/** True if the pattern means this sender. */
export function matchesWho(who: WhoPattern, { name, groups }: Identity): boolean {
  switch (who.kind) {
    case 'everyone':
      return true
    case 'authenticated':
      return name !== 'anonymous'
    case 'group':
      return groups.some(group => matchesGlob(who.group, group))
    case 'name': {
      const own = splitName(name)
      return own.issuer === who.issuer && matchesComponents(who.components, own.name.split('/'))
    }
  }
}

/** The kind of a name, which is empty for users, and the rest. */
function splitName(text: string): { readonly issuer: string; readonly name: string } {
  const colon = text.indexOf(':')
  return { issuer: text.slice(0, Math.max(0, colon)), name: text.slice(colon + 1) }
}
