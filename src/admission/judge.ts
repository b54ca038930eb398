import { LRUCache } from 'lru-cache'
import type { Digest } from '../oci/digest.ts'
import { type ImageName, parseImageName } from '../oci/image-name.ts'
import { parseRepositoryName, parseTag } from '../oci/name.ts'
import { matchesGlob } from '../oci/name-pattern.ts'
import { canonicalText, DOCKER_HUB } from '../oci/namespace.ts'
import { hostOfPath } from '../oci/path-host.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { AdmissionRule, AdmissionRules } from '../oci/rules/admission-rules.ts'
import { matchesRuleNames } from '../oci/rules/rule-names.ts'
import { IMAGE_ID } from './name-expression.ts'

/** Whether an image may be used, and what decided. */
export interface ImageVerdict {
  /** The image as it is written. */
  readonly image: string
  readonly isAllowed: boolean
  /** A rule, the default, or that the text is not the name of an image. */
  readonly by:
    | { readonly kind: 'rule'; readonly rule: AdmissionRule }
    | { readonly kind: 'default' }
    | { readonly kind: 'name' }
}

/** An image as rules see it. */
interface JudgedImage {
  readonly place: Place
  /** What a runtime pulls: the digest if there is one. By these an image may be allowed. */
  readonly pulled: readonly Reference[]
  /** These, and a tag beside a digest, which says nothing about the content. By these it may be denied. */
  readonly named: readonly Reference[]
}

const REMEMBERED_MAX = 10_000
/** Longer texts are judged anew, so that the memory of verdicts stays small. */
const REMEMBERED_LENGTH_MAX = 512

/** Judges images by one set of rules, from memory. */
export class ImageJudge {
  readonly rules: AdmissionRules
  /** Rules that may be about a registry, in order. Others than those named have the rules with `*`. */
  readonly #rulesOf = new Map<string, readonly AdmissionRule[]>()
  readonly #rulesOfOthers: readonly AdmissionRule[]
  readonly #verdicts = new LRUCache<string, ImageVerdict>({ max: REMEMBERED_MAX })

  constructor(rules: AdmissionRules) {
    this.rules = rules
    const hostOf = ({ names }: AdmissionRule): string => names.pattern.components[0] ?? ''
    const isOpen = (rule: AdmissionRule): boolean => hostOf(rule).includes('*')
    this.#rulesOfOthers = rules.rules.filter(isOpen)
    for (const host of new Set(rules.rules.map(hostOf)))
      this.#rulesOf.set(
        host,
        rules.rules.filter(rule => hostOf(rule) === host || isOpen(rule)),
      )
  }

  /**
   * Judges an image that is to run in a namespace of a cluster. A tag beside a digest can deny an image and
   * cannot allow one: the runtime pulls the digest, whatever the tag means by now.
   */
  judge(image: string, namespace: string): ImageVerdict {
    if (image.length > REMEMBERED_LENGTH_MAX) return this.#judgeNow(image, namespace, undefined)
    const key = `${namespace} ${image}`
    const known = this.#verdicts.get(key)
    if (known !== undefined) return known
    const verdict = this.#judgeNow(image, namespace, undefined)
    this.#verdicts.set(key, verdict)
    return verdict
  }

  /** Judges an image whose tag has just been resolved to a digest: rules about either are about it. */
  judgeResolved(image: string, digest: Digest): ImageVerdict {
    return this.#judgeNow(image, '', digest)
  }

  #judgeNow(image: string, namespace: string, resolved: Digest | undefined): ImageVerdict {
    const { mirrors, isAllowedByDefault } = this.rules
    const judged = readImage(image, mirrors, resolved)
    if (judged === undefined) return { image, isAllowed: false, by: { kind: 'name' } }
    const rules = this.#rulesOf.get(judged.place.namespace) ?? this.#rulesOfOthers
    const rule = rules.find(each => isFor(each, namespace) && names(each, judged))
    return rule === undefined
      ? { image, isAllowed: isAllowedByDefault, by: { kind: 'default' } }
      : { image, isAllowed: rule.isAllowed, by: { kind: 'rule', rule } }
  }
}

/** One sentence on why an image is refused. */
export function whyRefused({ image, by }: ImageVerdict): string {
  const shown = JSON.stringify(shorten(image))
  if (by.kind === 'name') return `image ${shown} is refused: this is not the name of an image`
  if (by.kind === 'default') return `image ${shown} is refused: no rule allows it`
  const { text, reason } = by.rule
  return `image ${shown} is refused: ${reason ?? `the rules deny ${text}`}`
}

const SHOWN_MAX = 160

function shorten(image: string): string {
  return image.length <= SHOWN_MAX ? image : `${image.slice(0, SHOWN_MAX)}…`
}

function isFor({ namespaces }: AdmissionRule, namespace: string): boolean {
  return namespaces.length === 0 || namespaces.some(glob => matchesGlob(glob, namespace))
}

function names({ names: wanted, isAllowed }: AdmissionRule, { place, pulled, named }: JudgedImage): boolean {
  return (isAllowed ? pulled : named).some(reference => matchesRuleNames(wanted, place, reference))
}

/**
 * Labels of a host are not empty: a runtime parses no `docker.io.`, which would be the same host by another
 * name. So would be one with the port `0443`.
 */
const HOST_LABELS = /^(?:\[.*\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)(?::[1-9][0-9]*)?$/
const ID = new RegExp(IMAGE_ID)

/** Splits the name of an image; `undefined` for a text that is none, or that runtimes read otherwise. */
export function parseJudgedName(text: string): ImageName | undefined {
  const name = ID.test(text) ? undefined : parseImageName(text)
  return name?.host === undefined || HOST_LABELS.test(name.host) ? name : undefined
}

/** An image by what it stands for; `undefined` if the text is not the name of one. */
function readImage(
  text: string,
  mirrors: AdmissionRules['mirrors'],
  resolved: Digest | undefined,
): JudgedImage | undefined {
  const name = parseJudgedName(text)
  if (name === undefined) return undefined
  const place = placeOf(name.host ?? DOCKER_HUB, name.path, mirrors)
  if (place === undefined) return undefined
  const { reference } = name
  const pulled = [
    reference,
    ...(resolved === undefined ? [] : [{ kind: 'digest', digest: resolved } as const]),
  ]
  const tag = reference.kind === 'digest' ? parseTag(/:([^:/]+)@/.exec(text)?.[1] ?? '') : undefined
  return { place, pulled, named: tag === undefined ? pulled : [...pulled, { kind: 'tag', tag }] }
}

function placeOf(host: string, path: string, mirrors: AdmissionRules['mirrors']): Place | undefined {
  const namespace = canonicalText(host)
  const slash = path.indexOf('/')
  if (mirrors.includes(namespace)) {
    const first = slash === -1 ? '' : hostOfPath(path.slice(0, slash), () => false)
    const isHost = /[.:]/.test(first) || first === 'localhost'
    const rest = isHost ? path.slice(slash + 1) : path
    return placeOf(isHost ? first : DOCKER_HUB, rest, [])
  }
  const full = namespace === DOCKER_HUB && slash === -1 ? `library/${path}` : path
  const repository = parseRepositoryName(full)
  return repository === undefined ? undefined : { namespace, repository }
}
