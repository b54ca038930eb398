import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import * as z from 'zod'
import { ConfigError, flagProblem, type Problem, wordProblem } from '../config/problem.ts'
import { parseImageName } from '../oci/image-name.ts'
import { DOCKER_HUB } from '../oci/namespace.ts'
import { type Environment, EXIT, type ExitCode } from './environment.ts'
import type { Tool } from './tool.ts'

const API = 'credentialprovider.kubelet.k8s.io/v1'
/** A request holds the name of an image, a token and annotations. */
const REQUEST_BYTES_MAX = 1024 * 1024
/** A mirror ignores the user name beside a token, but clients refuse an empty one. */
const TOKEN_USER = 'kubernetes'
/** A token of a service account lives for ten minutes at least. */
const TOKEN_CACHED = '5m0s'
const PASSWORD_CACHED = '1h0m0s'

const REQUEST = z.object({
  apiVersion: z.literal(API),
  kind: z.literal('CredentialProviderRequest'),
  image: z.string().min(1),
  serviceAccountToken: z.string().optional(),
})

/**
 * `entrepot credential-provider`: answers the kubelet's question for credentials (KEP-4412). It gives the
 * pod's own token, or else the password of a file, and only to the registries that it is told to.
 */
export const credentialProvider: Tool = {
  usage: '--for REGISTRY… [--username NAME --password-file FILE]',
  description:
    'A credential provider of the kubelet: reads a request from standard input and answers on standard output.\nIt answers with the token of the pod that pulls, or else with the password of a file.',
  flags: {
    for: {
      type: 'list',
      value: 'REGISTRY',
      description:
        'a registry that may get the credentials: the mirror, and those that it mirrors; may be repeated',
    },
    username: { type: 'text', value: 'NAME', description: 'user of --password-file' },
    'password-file': {
      type: 'text',
      value: 'FILE',
      description: 'password or robot token, where the kubelet gives no token',
    },
  },
  examples: [
    [
      'credential-provider --for mirror.example.com:8443 --for docker.io',
      'answer the kubelet about images of the mirror and of Docker Hub',
    ],
  ],
  run: async (environment, words) => {
    const problems: Problem[] = words.words.map(word =>
      wordProblem(word, 'is an unexpected argument', 'credential-provider takes options only'),
    )
    const hosts = words.list('for')
    const [username, passwordFile] = [words.text('username'), words.text('password-file')]
    if (hosts.length === 0)
      problems.push(flagProblem('for', 'is missing', 'name the registries that may get the credentials'))
    if ((username === undefined) !== (passwordFile === undefined))
      problems.push(
        flagProblem(
          username === undefined ? 'username' : 'password-file',
          'is missing',
          'they belong together',
        ),
      )
    if (problems.length > 0) throw new ConfigError(problems)
    const login =
      username === undefined || passwordFile === undefined
        ? undefined
        : { username, passwordFile: resolve(environment.cwd, passwordFile) }
    return await answer(environment, { hosts, login })
  },
}

interface ProviderOptions {
  readonly hosts: readonly string[]
  readonly login: { readonly username: string; readonly passwordFile: string } | undefined
}

async function answer(environment: Environment, { hosts, login }: ProviderOptions): Promise<ExitCode> {
  const request = REQUEST.safeParse(await readRequest(environment))
  if (!request.success) {
    environment.stderr.write(`entrepot: standard input has no CredentialProviderRequest of ${API}\n`)
    return EXIT.failure
  }
  const { image, serviceAccountToken: token } = request.data
  const host = hostOf(image)
  const isOurs = host !== undefined && hosts.includes(host)
  if (!isOurs) {
    respond(environment, {}, PASSWORD_CACHED)
    return EXIT.ok
  }
  if (token !== undefined && token !== '') {
    respond(environment, { [host]: { username: TOKEN_USER, password: token } }, TOKEN_CACHED)
    return EXIT.ok
  }
  if (login === undefined) {
    const hint = 'set tokenAttributes in the CredentialProviderConfig, or give --password-file'
    environment.stderr.write(`entrepot: the kubelet gave no token of a service account; ${hint}\n`)
    return EXIT.failure
  }
  try {
    const password = (await readFile(login.passwordFile, 'utf8')).trim()
    respond(environment, { [host]: { username: login.username, password } }, PASSWORD_CACHED)
    return EXIT.ok
  } catch (error) {
    environment.stderr.write(`entrepot: --password-file cannot be read: ${(error as Error).message}\n`)
    return EXIT.failure
  }
}

/** The registry of an image, as its name has it. */
function hostOf(image: string): string | undefined {
  const name = parseImageName(image)
  return name === undefined ? undefined : (name.host ?? DOCKER_HUB)
}

interface Login {
  readonly username: string
  readonly password: string
}

function respond(
  { stdout }: Environment,
  auth: Readonly<Record<string, Login>>,
  cacheDuration: string,
): void {
  const response = { apiVersion: API, kind: 'CredentialProviderResponse', cacheKeyType: 'Registry' }
  stdout.write(`${JSON.stringify({ ...response, cacheDuration, auth })}\n`)
}

/** `undefined` if standard input is no JSON, or too long. */
async function readRequest({ stdin }: Environment): Promise<unknown> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of stdin ?? []) {
    bytes += piece.byteLength
    if (bytes > REQUEST_BYTES_MAX) return undefined
    pieces.push(Buffer.from(piece))
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'))
  } catch {
    return undefined
  }
}
