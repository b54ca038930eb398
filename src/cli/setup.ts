import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ConfigError, flagProblem, type Problem, wordProblem } from '../config/problem.ts'
import { nearest } from '../lib/words/nearest.ts'
import { type Namespace, parseConfiguredNamespace } from '../oci/namespace.ts'
import { planBuildkit } from './clients/buildkit.ts'
import type { Plan, PlanClient, PlannedFile, Wish } from './clients/client.ts'
import { planContainerd } from './clients/containerd.ts'
import { planCrio, planPodman } from './clients/containers-image.ts'
import { planDocker } from './clients/docker.ts'
import { NO_FILES, RootedFiles, whyUntouched } from './clients/host-files.ts'
import { planK3s } from './clients/k3s.ts'
import { planKind } from './clients/kind.ts'
import { type LoginPlace, loginAt, readCertificate, readLoginPlace } from './clients/mirror-credentials.ts'
import { parseMirrorUrl } from './clients/mirror-url.ts'
import { type Environment, EXIT, type ExitCode } from './environment.ts'
import { lineDiff } from './line-diff.ts'
import type { Tool, ToolWords } from './tool.ts'

/** The clients that can be configured, by the words of the command line. */
export const PLANNED_CLIENTS: ReadonlyMap<string, PlanClient> = new Map<string, PlanClient>([
  ['docker', planDocker],
  ['containerd', planContainerd],
  ['crio', planCrio],
  ['podman', planPodman],
  ['buildkit', planBuildkit],
  ['k3s', planK3s],
  ['kind', planKind],
])
const ABSOLUTE = /^\/[\x20-\x7e]+$/
const NAMES: readonly string[] = [...PLANNED_CLIENTS.keys()]

/** `entrepot setup <client>`: prints the configuration that makes a client use a mirror, or writes it. */
export const setup: Tool = {
  usage: `<${NAMES.join(' | ')}> --mirror URL [options]`,
  description:
    'Print the configuration that makes a client pull through a mirror, or write it with --write. A file with\ncontradicting settings is never changed.',
  flags: {
    mirror: {
      type: 'text',
      value: 'URL',
      description: 'address of the mirror, such as http://mirror.example.com:8080 (required)',
    },
    namespace: {
      type: 'list',
      value: 'REGISTRY',
      description: 'a registry to pull through the mirror, such as ghcr.io; may be repeated',
    },
    all: {
      type: 'boolean',
      description: 'every registry (the default); the well-known ones for clients that cannot express that',
    },
    ca: {
      type: 'text',
      value: 'FILE',
      description: "CA certificate of the mirror, at its path on the client's machine",
    },
    username: {
      type: 'text',
      value: 'NAME',
      description: 'user that the client logs in to the mirror with, where it can send a login at all',
    },
    'password-file': {
      type: 'text',
      value: 'FILE',
      description: 'password of --username, or a robot token',
    },
    'client-cert': {
      type: 'text',
      value: 'FILE',
      description: "certificate that the client presents to the mirror, at its path on the client's machine",
    },
    'client-key': { type: 'text', value: 'FILE', description: 'key of --client-cert' },
    write: {
      type: 'boolean',
      description: 'show the changes, then write the files; write nothing if one of them contradicts',
    },
    root: {
      type: 'text',
      value: 'DIR',
      description: 'with --write: directory to use as /, such as /mnt/image',
    },
  },
  examples: [
    ['setup docker --mirror http://mirror:8080', 'print what /etc/docker/daemon.json needs'],
    ['setup containerd --mirror http://mirror:8080 --write', 'show the changes, then write the files'],
  ],
  completes: NAMES,
  run: async (environment, words) => {
    const given = readWish(words)
    const { plan } = given
    const root = words.text('root')
    const files = new RootedFiles(resolve(environment.cwd, root ?? '/'), environment.cwd)
    const wish = { ...given.wish, ...(await readFiles(given.wish, given.place, files)) }
    if (!words.isOn('write')) return print(environment, await plan(wish, NO_FILES))
    try {
      return await write(environment, await plan(wish, files), files)
    } catch (error) {
      const reason = whyUntouched(error)
      if (reason === undefined) throw error
      environment.stderr.write(`entrepot: ${reason}\n`)
      return EXIT.failure
    }
  },
}

function readWish(given: ToolWords): {
  readonly plan: PlanClient
  readonly wish: Wish
  readonly place: LoginPlace | undefined
} {
  const problems: Problem[] = []
  const [name, ...others] = given.words
  const plan = PLANNED_CLIENTS.get(name ?? '')
  if (plan === undefined) problems.push(unknownClient(name))
  for (const word of others) problems.push(wordProblem(word, 'is an unexpected argument', 'name one client'))
  const mirror = parseMirrorUrl(given.text('mirror') ?? '')
  if (mirror === undefined) {
    const message = given.text('mirror') === undefined ? 'is missing' : 'is not the address of a mirror'
    problems.push(flagProblem('mirror', message, 'such as http://mirror.example.com:8080, without a path'))
  }
  const registries = readRegistries(given, problems)
  if (registries !== 'all' && registries.some(name => name === mirror?.authority)) {
    const value = `${mirror?.authority} is the mirror itself`
    problems.push(flagProblem('namespace', value, 'name the registries that it mirrors'))
  }
  const caFile = given.text('ca')
  if (caFile !== undefined && !ABSOLUTE.test(caFile))
    problems.push(flagProblem('ca', 'is not an absolute path', 'such as /etc/ssl/private-ca.pem'))
  if (given.text('root') !== undefined && !given.isOn('write'))
    problems.push(flagProblem('root', 'has no effect without --write', undefined))
  const certificate = readCertificate(given, problems)
  const place = readLoginPlace(given, problems)
  if (problems.length > 0 || plan === undefined || mirror === undefined) throw new ConfigError(problems)
  return { plan, wish: { mirror, registries, caFile, certificate }, place }
}

/** Reads the files that are copied into the configuration: the password, and the CA if it is here. */
async function readFiles(
  { caFile }: Wish,
  place: LoginPlace | undefined,
  files: RootedFiles,
): Promise<Pick<Wish, 'caText' | 'login'>> {
  const caText = caFile === undefined ? undefined : await files.read(caFile).catch(() => undefined)
  if (place === undefined) return { caText }
  const login = await loginAt(place, async path => await readFile(files.locate(path), 'utf8'))
  if (login !== undefined) return { caText, login }
  throw new ConfigError([flagProblem('password-file', 'names a file without a password', undefined)])
}

function readRegistries(given: ToolWords, problems: Problem[]): Wish['registries'] {
  const texts = given.list('namespace')
  if (texts.length === 0) return 'all'
  if (given.isOn('all')) problems.push(flagProblem('all', 'contradicts --namespace', 'keep one of them'))
  const registries = new Set<Namespace>()
  for (const text of texts) {
    const name = parseConfiguredNamespace(text)
    if (name === undefined) {
      problems.push(flagProblem('namespace', 'is not a registry', 'as in image names, such as ghcr.io'))
    } else registries.add(name)
  }
  return [...registries]
}

function unknownClient(name: string | undefined): Problem {
  if (name === undefined) return wordProblem('client', 'is missing', NAMES.join(', '))
  const meant = nearest(name, NAMES)
  const hint = meant === undefined ? NAMES.join(', ') : `did you mean ${meant}?`
  return wordProblem(name, 'is not a known client', hint)
}

function print(environment: Environment, { files, notes }: Plan): ExitCode {
  environment.stdout.write(files.map(({ path, after }) => `# ${path}\n${after}`).join('\n'))
  tell(environment, notes)
  return EXIT.ok
}

async function write(
  environment: Environment,
  { files, notes }: Plan,
  target: RootedFiles,
): Promise<ExitCode> {
  for (const { path, before, after, isSecret } of files)
    environment.stdout.write(hideLogins(lineDiff(path, before, after), isSecret))
  const refused = files.filter(({ refusal }) => refusal !== undefined)
  for (const { path, refusal } of refused)
    environment.stderr.write(`entrepot: ${path} is unchanged: ${refusal}\n`)
  if (refused.length > 0) {
    environment.stderr.write('entrepot: nothing was written; the diff shows the required changes\n')
    return EXIT.failure
  }
  for (const file of files) await writeOne(environment, file, target)
  tell(environment, notes)
  return EXIT.ok
}

/** The diff of a file with a login, without the login. */
function hideLogins(diff: string, isSecret = false): string {
  if (!isSecret) return diff
  return diff.replaceAll(/((?:Authorization|"auth"|password)"?\s*[=:]\s*).*/gi, '$1[redacted]')
}

async function writeOne(environment: Environment, file: PlannedFile, target: RootedFiles): Promise<void> {
  const isSame = file.before === file.after
  if (!isSame) await target.write(file.path, file.after, file.isSecret)
  environment.stdout.write(`${isSame ? 'unchanged' : 'written'}: ${file.path}\n`)
}

function tell(environment: Environment, notes: readonly string[]): void {
  for (const note of notes) environment.stderr.write(`entrepot: note: ${note}\n`)
}
