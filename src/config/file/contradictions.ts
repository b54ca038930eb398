import type { EntryKey, Refusal } from './entry.ts'

/** A contradiction between two keys of an entry, reported at the line of `key`. */
export interface Contradiction extends Refusal {
  readonly key: EntryKey
}

const EXCLUSIVE = [
  ['password', 'password_file'],
  ['username', 'docker_config'],
  ['password', 'docker_config'],
  ['password_file', 'docker_config'],
] as const satisfies readonly (readonly [EntryKey, EntryKey])[]

const NEEDS = [
  ['username', ['password', 'password_file', 'docker_config']],
  ['password', ['username', 'docker_config']],
  ['password_file', ['username', 'docker_config']],
  ['client_cert_file', ['client_key_file']],
  ['client_key_file', ['client_cert_file']],
] as const satisfies readonly (readonly [EntryKey, readonly EntryKey[]])[]

const TLS_ONLY = ['ca_file', 'client_cert_file', 'client_key_file'] as const satisfies readonly EntryKey[]

/** Finds contradictions between the values of one entry. Each message names both keys. */
export function contradictions(values: ReadonlyMap<EntryKey, unknown>): readonly Contradiction[] {
  const found: Contradiction[] = []
  for (const [one, other] of EXCLUSIVE) {
    if (!values.has(one) || !values.has(other)) continue
    found.push({ key: other, message: `has both ${one} and ${other}`, hint: 'keep one of them' })
  }
  for (const [key, needed] of NEEDS) {
    if (!values.has(key) || needed.some(other => values.has(other))) continue
    const others = needed.filter(other => other !== 'docker_config')
    found.push({ key, message: `has ${key} without ${others.join(' or ')}`, hint: 'they belong together' })
  }
  for (const key of TLS_ONLY) {
    if (values.get('tls') !== false || !values.has(key)) continue
    found.push({ key, message: `has both tls: false and ${key}`, hint: 'plain http has no certificates' })
  }
  return found
}
