import { type Document, isMap, parseDocument } from 'yaml'
import type { HostFiles, Plan, PlannedFile, Wish } from './client.ts'

export const K3S_REGISTRIES = '/etc/rancher/k3s/registries.yaml'

/** k3s, and RKE2 with another path: `registries.yaml`, from which it generates containerd's configuration. */
export async function planK3s(wish: Wish, files: HostFiles): Promise<Plan> {
  const notes = [
    'k3s reads the file when it starts, on servers and agents: run `systemctl restart k3s` or `k3s-agent`.',
    'For RKE2, put the same text into /etc/rancher/rke2/registries.yaml.',
  ]
  return { files: [await planFile(wish, files)], notes }
}

async function planFile(wish: Wish, files: HostFiles): Promise<PlannedFile> {
  const path = K3S_REGISTRIES
  const before = await files.read(path)
  const document = parseDocument(before ?? '')
  const isReadable = document.errors.length === 0 && (document.contents === null || isMap(document.contents))
  if (!isReadable) return { path, before, after: fresh(wish), refusal: 'it is not a YAML map' }
  const contradictions = [...addMirrors(document, wish), ...addConnection(document, wish)]
  if (contradictions.length > 0)
    return {
      path,
      before,
      after: fresh(wish),
      refusal: `it has other settings for ${contradictions.join(', ')}`,
    }
  const after = document.toString({ lineWidth: 0 })
  const isSame = before !== undefined && sameValue(parseDocument(before).toJS(), document.toJS())
  return { path, before, after: isSame ? before : after, isSecret: wish.login !== undefined }
}

/** Adds missing mirrors, and returns the names of registries with another one. */
function addMirrors(document: Document, { mirror, registries }: Wish): string[] {
  const contradictions: string[] = []
  for (const name of registries === 'all' ? ['*'] : registries) {
    const given = endpointsOf(document.toJS(), name) ?? []
    // An entry without endpoints only says that other nodes share this registry's images.
    if (given.length === 0) document.setIn(['mirrors', name], document.createNode({ endpoint: [mirror.url] }))
    else if (given[0] !== mirror.url) contradictions.push(name)
  }
  return contradictions
}

/** Adds what the connection to the mirror needs, and returns its name if other settings are there. */
function addConnection(document: Document, { mirror, caFile, certificate, login }: Wish): string[] {
  const wanted: readonly (readonly [readonly string[], string | undefined])[] = [
    [['tls', 'ca_file'], caFile],
    [['tls', 'cert_file'], certificate?.certFile],
    [['tls', 'key_file'], certificate?.keyFile],
    [['auth', 'username'], login?.username],
    [['auth', 'password'], login?.password],
  ]
  let isOther = false
  for (const [path, value] of wanted) {
    if (value === undefined) continue
    const keys = ['configs', mirror.authority, ...path]
    const given = document.getIn(keys)
    if (given === undefined) document.setIn(keys, value)
    isOther ||= given !== undefined && given !== value
  }
  return isOther ? [mirror.authority] : []
}

/** The endpoints of a registry; `undefined` if the file does not have it. */
export function endpointsOf(file: unknown, name: string): readonly unknown[] | undefined {
  const entry = valueAt(valueAt(file, 'mirrors'), name)
  if (entry === undefined) return undefined
  const endpoints = valueAt(entry, 'endpoint')
  return Array.isArray(endpoints) ? endpoints : []
}

/** A value of a map as YAML gives it; `undefined` for anything else. */
export function valueAt(map: unknown, key: string): unknown {
  const isObject = typeof map === 'object' && map !== null && !Array.isArray(map)
  return isObject && Object.hasOwn(map, key) ? (map as Readonly<Record<string, unknown>>)[key] : undefined
}

function fresh(wish: Wish): string {
  const document = parseDocument('')
  addMirrors(document, wish)
  addConnection(document, wish)
  return document.toString({ lineWidth: 0 })
}

function sameValue(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}
