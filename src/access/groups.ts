import type { Identity } from '../oci/identity.ts'
import { matchesWho, type WhoPattern } from '../oci/rules/rule.ts'

/** Members of each group. */
export type Groups = ReadonlyMap<string, readonly WhoPattern[]>

/** The identity as a member of its own groups and of those that the configuration puts it into. */
export function withGroups(identity: Identity, groups: Groups): Identity {
  const configured = [...groups.keys()].filter(
    group => groups.get(group)?.some(member => matchesWho(member, identity)) === true,
  )
  return configured.length === 0 ? identity : { ...identity, groups: [...identity.groups, ...configured] }
}
