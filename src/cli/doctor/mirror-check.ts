import { createHash } from 'node:crypto'
import { parseImageName } from '../../oci/image-name.ts'
import { DOCKER_HUB, parseConfiguredNamespace } from '../../oci/namespace.ts'
import { ask, type HttpAnswer, whyUnanswered } from './ask.ts'

/** Findings about a mirror. */
export interface MirrorCheck {
  readonly goods: readonly string[]
  readonly wrongs: readonly string[]
}

/** A mirror, and the image to pull through it. */
export interface Trial {
  /** Scheme and authority. */
  readonly mirror: string
  readonly image: TrialImage
  /** A further authority to trust, as PEM. */
  readonly ca: string | undefined
  readonly userAgent: string
  /** `Authorization` that clients send to the mirror, if they log in. */
  readonly authorization?: string | undefined
}

/** The manifest that the trial requests. */
export interface TrialImage {
  readonly registry: string
  readonly repository: string
  readonly reference: string
}

/** Parses the name of an image as clients do; `undefined` if it is not one. */
export function parseTrialImage(text: string): TrialImage | undefined {
  const name = parseImageName(text)
  const registry = parseConfiguredNamespace(name?.host ?? DOCKER_HUB)
  if (name === undefined || registry === undefined) return undefined
  const { path, reference } = name
  const repository = registry === DOCKER_HUB && !path.includes('/') ? `library/${path}` : path
  return { registry, repository, reference: reference.kind === 'tag' ? reference.tag : reference.digest }
}

const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ')

/** Connects to a mirror, and requests a manifest from it as containerd would. */
export async function checkMirror(trial: Trial): Promise<MirrorCheck> {
  const { mirror, image, ca, userAgent, authorization } = trial
  const login = authorization === undefined ? {} : { Authorization: authorization }
  const headers = { 'User-Agent': userAgent, Accept: ACCEPT, ...login }
  try {
    const base = await ask(`${mirror}/v2/`, { headers, ca, timeoutMs: 10_000 })
    if (base.status === 401 && messageOf(base.body) !== '')
      return {
        goods: [],
        wrongs: [`${mirror} answers 401 on /v2/, ${MEANINGS.get(401)}: ${messageOf(base.body)}.`],
      }
    if (base.status !== 200) {
      const wrong = `${mirror} answers ${base.status} on /v2/, where a mirror answers 200: it is not a mirror, or a proxy in front of it refuses.`
      return { goods: [], wrongs: [wrong] }
    }
  } catch (error) {
    return { goods: [], wrongs: [`${mirror} cannot be reached: ${whyUnanswered(error)}.`] }
  }
  const goods = [`${mirror} answers.`]
  const name = `${image.registry}/${image.repository}:${image.reference}`
  try {
    const path = `/v2/${image.repository}/manifests/${image.reference}?ns=${encodeURIComponent(image.registry)}`
    const { good, wrong } = judge(name, mirror, await ask(`${mirror}${path}`, { headers, ca }))
    return { goods: [...goods, ...good], wrongs: wrong }
  } catch (error) {
    return { goods, wrongs: [`${name} did not come through ${mirror}: ${whyUnanswered(error)}.`] }
  }
}

/** Judges the answer to a request for a manifest. */
function judge(
  name: string,
  mirror: string,
  answer: HttpAnswer,
): { readonly good: string[]; readonly wrong: string[] } {
  const { status, headers, body } = answer
  const said = messageOf(body)
  if (status !== 200) {
    const why = MEANINGS.get(status) ?? 'which is not an answer of a mirror'
    return {
      good: [],
      wrong: [`${mirror} answers ${status} for ${name}, ${why}${said === '' ? '' : `: ${said}`}.`],
    }
  }
  const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`
  const stated = String(headers['docker-content-digest'] ?? '')
  if (stated !== digest)
    return {
      good: [],
      wrong: [
        `${mirror} says that ${name} is ${stated || 'nothing'}, but its bytes are ${digest}: something on the way changes them.`,
      ],
    }
  const cache = String(headers['cache-status'] ?? '')
  if (!cache.startsWith('entrepot'))
    return {
      good: [`${name} came through, ${digest}.`],
      wrong: [`${mirror} is a registry, but not Entrepot: its answer has no Cache-Status.`],
    }
  const how = cache.slice('entrepot; '.length)
  return { good: [`${name} came through it (${how}), ${digest}.`], wrong: [] }
}

const MEANINGS: ReadonlyMap<number, string> = new Map([
  [401, 'because it wants a login, or another one (--username, --password-file)'],
  [403, 'because its policy or the registry refuses it'],
  [404, 'because the registry does not have it'],
  [502, 'because it cannot get it from the registry'],
  [503, 'because the registry limits it or it is shutting down'],
  [504, 'because the registry does not answer it in time'],
])

/** The text of an OCI error body. */
function messageOf(body: Buffer): string {
  try {
    const { errors } = JSON.parse(body.toString('utf8')) as { errors?: readonly { message?: unknown }[] }
    const message = errors?.[0]?.message
    return typeof message === 'string' ? message.slice(0, 500) : ''
  } catch {
    return ''
  }
}
