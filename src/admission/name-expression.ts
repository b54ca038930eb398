import { matchesGlob } from '../oci/name-pattern.ts'
import type { AdmissionRule } from '../oci/rules/admission-rules.ts'

/**
 * Regular expressions for names of images, in the syntax that RE2 and JavaScript share. They say the same as
 * `parseImageName`, for languages that have no better way to read a name.
 */
const LABEL = '[A-Za-z0-9_-]+'
/** `:0443` would be the port 443 by another name. */
const PORT = ':[1-9][0-9]{0,4}'
const FIRST_LABEL = '[A-Za-z0-9][A-Za-z0-9_-]*'
/** A first component that is a host: it has a dot or a port, or is `localhost`. */
const HOST = [
  `${FIRST_LABEL}(?:\\.${LABEL})+(?:${PORT})?`,
  `${FIRST_LABEL}${PORT}`,
  'localhost',
  `\\[[0-9A-Fa-f]*[:.][0-9A-Fa-f:.]*\\](?:${PORT})?`,
].join('|')
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const TAG = '[A-Za-z0-9_][A-Za-z0-9._-]{0,127}'
const DIGEST = '(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})'

/** A name that begins with a host. */
export const WITH_HOST = `^(?:${HOST})/`
/** A name of an image, but for the lengths of its parts. */
export const IMAGE_NAME = `^(?:(?:${HOST})/)?${COMPONENT}(?:/${COMPONENT})*(?::${TAG})?(?:@${DIGEST})?$`
/**
 * A text that names no image, but content that a node has already: containerd takes it for the id of an
 * image, whatever registry that came from.
 */
export const IMAGE_ID = '^(?:sha256|sha384|sha512):'
/** A name whose path is short enough. */
export const SHORT_ENOUGH = `^(?:(?:${HOST})/)?[a-z0-9._/-]{1,255}(?:[:@].*)?$`
/** A resolved name whose path became too long by `library/`. */
export const TOO_LONG = '^docker\\.io/library/[^/:@]{248,}'
/** A host as the first component of a path, behind that of a mirror. */
export const PATH_HOST = '^(?:localhost(?:_[0-9]{1,5})?|[^/]*\\.[^/]*)/'
/** The same with its port behind an underscore. */
export const PATH_HOST_WITH_PORT = '^(?:localhost|[^/]*\\.[^/]*)_[0-9]{1,5}/'

/** What resolved names a rule is about, without the anchors. Such a name has its host and `library/`. */
export function ruleExpression({ names, isAllowed }: AdmissionRule): string {
  return `${nameExpression(names.pattern.components)}${tailExpression(names, isAllowed)}`
}

/** Namespaces of a cluster that some globs mean, without the anchors. */
export function namespaceExpression(globs: readonly string[]): string {
  return `(?:${globs.map(glob => globExpression(glob, '[a-z0-9-]')).join('|')})`
}

function nameExpression([host = '', ...path]: readonly string[]): string {
  const rest = path.map(componentExpression).join('')
  if (host !== '**') return `${globExpression(host, '[^/]')}${rest}`
  const many = `[^/]+(?:/[^/:@]+)*${rest}`
  return path.length === 0 ? many : `(?:${many}|${nameExpression(path)})`
}

function componentExpression(component: string): string {
  return component === '**' ? '(?:/[^/:@]+)*' : `/${globExpression(component, '[^/:@]')}`
}

/** A tag beside a digest can deny an image and cannot allow one. */
function tailExpression({ tag, digest }: AdmissionRule['names'], isAllowed: boolean): string {
  if (digest !== undefined) return `(?::[^@/]*)?@${globExpression(digest, '[a-z0-9:]')}`
  if (tag === undefined) return '(?::[^@/]*)?(?:@.*)?'
  const written = `:${globExpression(tag, '[A-Za-z0-9_.-]')}`
  const alone = matchesGlob(tag, 'latest') ? `(?:${written})?` : written
  return isAllowed ? alone : `(?:${alone}|${written}@.*)`
}

function globExpression(glob: string, any: string): string {
  return glob
    .split('*')
    .map(text => text.replaceAll(/[.+^${}()|[\]\\?]/g, String.raw`\$&`))
    .join(`${any}*`)
}
