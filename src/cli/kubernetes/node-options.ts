import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { readYamlFile } from '../../config/file/yaml-file.ts'
import { ConfigError, flagProblem, type Problem, wordProblem } from '../../config/problem.ts'
import { parseDuration } from '../../lib/duration.ts'
import { type Namespace, parseConfiguredNamespace } from '../../oci/namespace.ts'
import type { MirrorUrl } from '../clients/client.ts'
import { type LoginPlace, readCertificate, readLoginPlace } from '../clients/mirror-credentials.ts'
import { parseMirrorUrl } from '../clients/mirror-url.ts'
import { NODE_RUNTIMES, type NodeRuntimeName } from '../clients/node-runtimes.ts'
import type { Environment } from '../environment.ts'
import type { ToolWords } from '../tool.ts'
import { type Logging, readLogging } from './logging.ts'
import type { HealthTimes } from './mirror-health.ts'
import type { NodeWish } from './node-writer.ts'

/** What `entrepot node-config` is to do. */
export interface NodeOptions {
  readonly action: 'once' | 'loop' | 'remove'
  /** The node's root directory, as it is mounted. */
  readonly root: string
  readonly wish: NodeWish
  /** Where the login is that runtimes send to the mirror. */
  readonly login: LoginPlace | undefined
  readonly intervalMs: number
  readonly health: HealthTimes
  readonly removesOnExit: boolean
  readonly logging: Logging
}

const ABSOLUTE = /^\/[\x20-\x7e]+$/
const DEFAULT_INTERVAL = '15s'
const DEFAULT_UNHEALTHY = '60s'
const DEFAULT_HEALTHY = '10s'

/** Reads the flags of `entrepot node-config`. Throws a {@link ConfigError} with every problem. */
export async function readNodeOptions({ cwd }: Environment, words: ToolWords): Promise<NodeOptions> {
  const problems: Problem[] = words.words.map(word =>
    wordProblem(word, 'is an unexpected argument', 'node-config takes options only'),
  )
  const action = readAction(words, problems)
  const mirror = readMirror(words, action, problems)
  const caFile = words.text('ca')
  if (caFile !== undefined && !ABSOLUTE.test(caFile))
    problems.push(flagProblem('ca', 'is not an absolute path', 'its path on the node'))
  const certificate = readCertificate(words, problems)
  const login = readLoginPlace(words, problems)
  const registries = await readRegistries(cwd, words, problems)
  const durations = readDurations(words, problems)
  const logging = readLogging(words, problems)
  const runtimes = readRuntimes(words, problems)
  if (problems.length > 0 || mirror === undefined) throw new ConfigError(problems)
  const wish = {
    mirror,
    caFile,
    certificate,
    registries,
    isForAll: words.isOn('all') || registries.length === 0,
    runtimes,
    containerdVersion: words.text('containerd-version'),
    writesImport: words.isOn('write-import'),
  }
  const root = resolve(cwd, words.text('root') ?? '/')
  return { action, root, wish, login, ...durations, removesOnExit: words.isOn('remove-on-exit'), logging }
}

function readAction(words: ToolWords, problems: Problem[]): NodeOptions['action'] {
  const [isOnce, isRemoving] = [words.isOn('once'), words.isOn('remove')]
  if (isOnce && isRemoving) problems.push(flagProblem('once', 'contradicts --remove', 'keep one of them'))
  if ((isOnce || isRemoving) && words.isOn('remove-on-exit'))
    problems.push(flagProblem('remove-on-exit', 'is for the loop', 'leave out --once and --remove'))
  return isRemoving ? 'remove' : isOnce ? 'once' : 'loop'
}

/** Removing needs no mirror: all blocks of ours go. */
function readMirror(
  words: ToolWords,
  action: NodeOptions['action'],
  problems: Problem[],
): MirrorUrl | undefined {
  const text = words.text('mirror') ?? (action === 'remove' ? 'http://mirror.invalid' : undefined)
  const mirror = text === undefined ? undefined : parseMirrorUrl(text)
  if (mirror !== undefined) return mirror
  const message = text === undefined ? 'is missing' : 'is not the address of a mirror'
  problems.push(flagProblem('mirror', message, 'such as http://127.0.0.1:5000, without a path'))
  return undefined
}

function readDurations(words: ToolWords, problems: Problem[]): Pick<NodeOptions, 'intervalMs' | 'health'> {
  const read = (flag: string, fallback: string): number => {
    const durationMs = parseDuration(words.text(flag) ?? fallback)
    if (durationMs === undefined) problems.push(flagProblem(flag, 'is not a duration', `such as ${fallback}`))
    return durationMs ?? 0
  }
  const intervalMs = read('interval', DEFAULT_INTERVAL)
  if (intervalMs < 1000)
    problems.push(flagProblem('interval', 'is shorter than 1s', `such as ${DEFAULT_INTERVAL}`))
  const unhealthyAfterMs = read('unhealthy-after', DEFAULT_UNHEALTHY)
  return { intervalMs, health: { unhealthyAfterMs, healthyAfterMs: read('healthy-after', DEFAULT_HEALTHY) } }
}

function readRuntimes(words: ToolWords, problems: Problem[]): readonly NodeRuntimeName[] {
  return listOf(words, 'runtime').flatMap(text => {
    const name = NODE_RUNTIMES.find(known => known === text)
    if (name === undefined) problems.push(flagProblem('runtime', 'is not known', NODE_RUNTIMES.join(', ')))
    return name ?? []
  })
}

/** The registries that are named, else those of the upstream file. */
async function readRegistries(
  cwd: string,
  words: ToolWords,
  problems: Problem[],
): Promise<readonly Namespace[]> {
  const file = words.text('upstream-config-file')
  const named = listOf(words, 'registries')
  const texts = named.length > 0 || file === undefined ? named : await namesOf(resolve(cwd, file), problems)
  const registries = texts.flatMap(text => {
    const name = parseConfiguredNamespace(text)
    if (name === undefined)
      problems.push(flagProblem('registries', 'has something that is no registry', 'such as ghcr.io,quay.io'))
    return name ?? []
  })
  return [...new Set(registries)]
}

async function namesOf(path: string, problems: Problem[]): Promise<readonly string[]> {
  try {
    const { entries, problems: wrong } = readYamlFile(await readFile(path, 'utf8'), path)
    problems.push(...wrong)
    const names = entries.map(({ values }) => values.get('namespace')?.value)
    return names.filter(name => typeof name === 'string')
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException
    problems.push(flagProblem('upstream-config-file', `cannot be read: ${code}`, undefined))
    return []
  }
}

function listOf(words: ToolWords, flag: string): readonly string[] {
  return words
    .list(flag)
    .flatMap(text => text.split(','))
    .map(text => text.trim())
    .filter(text => text !== '')
}
