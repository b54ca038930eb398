import { ConfigError, wordProblem } from '../../config/problem.ts'
import { parseImageName, splitShortDigest } from '../../oci/image-name.ts'
import type { ToolWords } from '../tool.ts'

const HINT =
  'such as alpine, docker.io/library/alpine:3.20, ghcr.io/owner/name@sha256:… or a digest as entrepot ls prints it'

/** Refuses words for a command that takes options only. */
export function requireNoWords({ words }: ToolWords): void {
  const problems = words.map(word =>
    wordProblem(word, 'is an unexpected argument', 'this command takes options only'),
  )
  if (problems.length > 0) throw new ConfigError(problems)
}

/** The one image that the words name. */
export function oneImage({ words }: ToolWords): string {
  const [image = '', ...more] = words
  if (more.length > 0)
    throw new ConfigError([wordProblem(more[0] ?? '', 'is an unexpected argument', 'name one image')])
  return requireImage(image)
}

/** All images that the words name, at least one. */
export function someImages({ words }: ToolWords): readonly string[] {
  if (words.length === 0) throw new ConfigError([wordProblem('', 'an image is missing', HINT)])
  return words.map(requireImage)
}

/** The text if it names an image. */
export function requireImage(text: string): string {
  if (text === '') throw new ConfigError([wordProblem('', 'an image is missing', HINT)])
  if (parseImageName(text) === undefined && splitShortDigest(text) === undefined)
    throw new ConfigError([wordProblem(text, 'is not an image name', HINT)])
  return text
}
