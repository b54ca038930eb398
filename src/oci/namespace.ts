declare const brand: unique symbol

/**
 * The registry host that clients mean, lower-cased, with a port unless it is 443, such as `docker.io` or
 * `registry.example.com:5000`. It is a cache key and a name, and never dialled directly: the configuration of
 * an upstream says which host serves it.
 */
export type Namespace = string & { readonly [brand]: 'Namespace' }

/** The namespace of Docker Hub's images. */
export const DOCKER_HUB = 'docker.io' as Namespace

/** The host that serves {@link DOCKER_HUB}. */
export const DOCKER_HUB_HOST = 'registry-1.docker.io'

/** Public registries for clients that cannot express "every registry", in the order of the files. */
export const PUBLIC_REGISTRIES: readonly Namespace[] = [
  'docker.io',
  'ghcr.io',
  'quay.io',
  'registry.k8s.io',
  'gcr.io',
  'mcr.microsoft.com',
  'public.ecr.aws',
  'registry.gitlab.com',
  'docker.elastic.co',
  'nvcr.io',
] as readonly string[] as readonly Namespace[]

const LENGTH_MAX = 253
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
const PORT = /^[1-9][0-9]{0,4}$/
const CONFIGURED = /^[a-z0-9._:[\]-]+$/
const ALIASES: ReadonlyMap<string, Namespace> = new Map([
  ['index.docker.io', DOCKER_HUB],
  ['registry-1.docker.io', DOCKER_HUB],
])

/**
 * Makes a {@link Namespace} from what a client sent: ASCII letters, digits, hyphens and dots, at least two
 * labels and a last label that is not a number (so no IP literal in any spelling), an optional port, at most
 * 253 characters. `undefined` means that the text is not one.
 */
export function parseNamespace(text: string): Namespace | undefined {
  const host = splitHost(text)
  if (host === undefined) return undefined
  const labels = host.name.split('.')
  if (labels.length < 2 || !labels.every(label => LABEL.test(label))) return undefined
  if (/^(?:[0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '')) return undefined
  return canonical(host)
}

/**
 * Makes a {@link Namespace} from configuration, which may also name single labels (`localhost:5000`),
 * underscores and IP literals. Clients reach such a namespace only by writing it the same way. `undefined`
 * means that it cannot be a key.
 */
export function parseConfiguredNamespace(text: string): Namespace | undefined {
  const lower = text.toLowerCase()
  if (text.length === 0 || text.length > LENGTH_MAX || !CONFIGURED.test(lower)) return undefined
  if (lower.startsWith('.') || lower.startsWith('_') || lower.includes('..')) return undefined
  return canonicalText(lower)
}

/** Lower-cases, drops `:443` and resolves Docker Hub's aliases, as both makers do. */
export function canonicalText(text: string): Namespace {
  const lower = text.toLowerCase()
  const name = lower.endsWith(':443') ? lower.slice(0, -4) : lower
  return ALIASES.get(name) ?? (name as Namespace)
}

/** A namespace and its aliases. */
export function spellingsOf(namespace: Namespace): readonly string[] {
  const aliases = [...ALIASES].filter(([, meant]) => meant === namespace).map(([alias]) => alias)
  return [namespace, ...aliases]
}

interface HostAndPort {
  readonly name: string
  readonly port: string | undefined
}

function splitHost(text: string): HostAndPort | undefined {
  if (text.length === 0 || text.length > LENGTH_MAX) return undefined
  const lower = text.toLowerCase()
  const colon = lower.indexOf(':')
  if (colon === -1) return { name: lower, port: undefined }
  const port = lower.slice(colon + 1)
  if (!PORT.test(port) || Number(port) > 65_535) return undefined
  return { name: lower.slice(0, colon), port }
}

function canonical(host: HostAndPort): Namespace {
  return canonicalText(host.port === undefined ? host.name : `${host.name}:${host.port}`)
}
