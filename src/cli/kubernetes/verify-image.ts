import { resolve } from 'node:path'
import { ImageJudge, whyRefused } from '../../admission/judge.ts'
import { loadAdmission } from '../../config/file/admission.ts'
import { ConfigError, flagProblem, type Problem, wordProblem } from '../../config/problem.ts'
import { type Digest, parseDigest } from '../../oci/digest.ts'
import { type Environment, EXIT, type ExitCode } from '../environment.ts'
import type { Tool, ToolWords } from '../tool.ts'

const VARIABLE = 'ENTREPOT_ADMISSION_FILE'
/** containerd gives a verifier no flags of its own, so the file has a usual place. */
const DEFAULT_FILE = '/etc/entrepot/admission.yaml'

/**
 * `entrepot verify-image`: a verifier of containerd's `io.containerd.image-verifier.v1.bindir`. It ends with
 * 0 if the image may be pulled, and with 1 and the reason on standard output if not.
 */
export const verifyImage: Tool = {
  usage: '-name NAME -digest DIGEST [-stdin-media-type TYPE]',
  description:
    'A verifier for the image-verifier plugin of containerd: ends with 0 if the section admission of the file\nallows the image, and with 1 and a sentence if not.',
  flags: {
    name: { type: 'text', value: 'NAME', description: 'name of the image (-name works too)' },
    digest: { type: 'text', value: 'DIGEST', description: 'digest to which its tag was resolved' },
    'stdin-media-type': {
      type: 'text',
      value: 'TYPE',
      description: 'media type of the descriptor on standard input, which is not read',
    },
    file: {
      type: 'text',
      value: 'FILE',
      description: `file with the section admission; ${VARIABLE}, else ${DEFAULT_FILE}`,
    },
  },
  examples: [
    [
      'verify-image --file gate.yaml --name docker.io/library/nginx:1.25 --digest sha256:…',
      'may this be pulled?',
    ],
  ],
  hasGoFlags: true,
  run: async (environment, words) => {
    try {
      return await verify(environment, readImage(words), words.text('file'))
    } catch (error) {
      // containerd shows standard output only.
      if (error instanceof ConfigError) environment.stdout.write(`${error.message}\n`)
      throw error
    }
  },
}

interface VerifiedImage {
  readonly name: string
  readonly digest: Digest | undefined
}

function readImage(words: ToolWords): VerifiedImage {
  const problems: Problem[] = words.words.map(word =>
    wordProblem(word, 'is an unexpected argument', undefined),
  )
  const [name, digestText] = [words.text('name'), words.text('digest')]
  const digest = parseDigest(digestText ?? '')
  if (name === undefined) problems.push(flagProblem('name', 'is missing', 'the name of an image'))
  if (digestText !== undefined && digest === undefined)
    problems.push(flagProblem('digest', 'is not a digest', 'such as sha256: and 64 digits'))
  if (problems.length > 0 || name === undefined) throw new ConfigError(problems)
  return { name, digest }
}

/** In the modes warn and audit an image is let through, with the sentence for containerd's log. */
async function verify(
  { env, cwd, stdout }: Environment,
  { name, digest }: VerifiedImage,
  given: string | undefined,
): Promise<ExitCode> {
  const file = given ?? env[VARIABLE] ?? DEFAULT_FILE
  const rules = await loadAdmission({ name: file, path: resolve(cwd, file) })
  const judge = new ImageJudge(rules)
  const verdict = digest === undefined ? judge.judge(name, '') : judge.judgeResolved(name, digest)
  if (verdict.isAllowed) return EXIT.ok
  stdout.write(`${whyRefused(verdict)}\n`)
  return rules.mode === 'enforce' ? EXIT.failure : EXIT.ok
}
