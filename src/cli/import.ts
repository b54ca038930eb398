import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ConfigError, flagProblem, wordProblem } from '../config/problem.ts'
import { systemClock } from '../lib/clock.ts'
import { openDirectoryTree } from '../migration/directory-tree.ts'
import { findDistribution } from '../migration/distribution.ts'
import { Migration } from '../migration/migration.ts'
import { findOciRegistry } from '../migration/oci-registry.ts'
import { RegistryTarget } from '../migration/registry-target.ts'
import { type MigrationSource, SourceError, type SourceTree } from '../migration/source.ts'
import { RehearsedTarget, TargetError } from '../migration/target.ts'
import type { MigrationOptions } from '../migration/terms.ts'
import { parseImageName } from '../oci/image-name.ts'
import { matchesComponents } from '../oci/name-pattern.ts'
import { ADMIN_FLAGS, connect } from './admin/connection.ts'
import { type Environment, EXIT, type ExitCode } from './environment.ts'
import { AdminCache } from './import-cache.ts'
import { ImportReport } from './import-report.ts'
import { SOURCE_FLAGS, sourceBucket } from './import-source.ts'
import type { Tool, ToolWords } from './tool.ts'

const DEFAULT_REGISTRY = 'http://127.0.0.1:8080'

/** `entrepot import <directory>`: takes what another registry has stored into hosted repositories. */
export const importRegistry: Tool = {
  usage: '<directory | s3://bucket[/prefix]> [options]',
  description:
    'Take everything that a Distribution registry (registry:2, registry:3) has stored into hosted repositories of a\nrunning mirror, or what an oci-registry has cached into its cache. Proves every digest, and skips what is there\nalready: a run that was cut off is run again. Exit code 1 if anything is not imported.',
  flags: {
    'dry-run': { type: 'boolean', description: 'read and prove everything, and send nothing' },
    registry: {
      type: 'text',
      value: 'URL',
      description: `the mirror, as its clients reach it [ENTREPOT_REGISTRY, default ${DEFAULT_REGISTRY}]`,
    },
    username: { type: 'text', value: 'NAME', description: 'user that may push [ENTREPOT_USERNAME]' },
    'password-file': {
      type: 'text',
      value: 'FILE',
      description: 'file with the password or robot token of that user [ENTREPOT_PASSWORD_FILE]',
    },
    'ca-file': { type: 'text', value: 'FILE', description: 'CA of the mirror, as PEM' },
    prefix: {
      type: 'text',
      value: 'NAME',
      description: 'put this before the name of every repository, such as registry.example.com',
    },
    only: {
      type: 'list',
      value: 'PATTERN',
      description: 'only these repositories, such as team/** or library/*; may be repeated',
    },
    'tagged-only': {
      type: 'boolean',
      description: 'leave out manifests that no tag leads to',
    },
    'move-tags': {
      type: 'boolean',
      description: 'move tags that exist there already and name another digest',
    },
    ...SOURCE_FLAGS,
    admin: ADMIN_FLAGS.admin,
    'token-file': ADMIN_FLAGS['token-file'],
  },
  examples: [
    [
      'import /var/lib/registry --prefix registry.example.com --dry-run',
      'what would be imported, what is damaged, and what is not hosted',
    ],
    ['import /var/lib/registry --prefix registry.example.com', 'import it, or go on with it'],
    ['import s3://old-registry/root --source-host http://minio:9000', 'import from a bucket'],
  ],
  run,
}

async function run(environment: Environment, words: ToolWords): Promise<ExitCode> {
  const path = onlyWord(words)
  const options = readOptions(words)
  const isDryRun = words.isOn('dry-run')
  const report = new ImportReport(environment, { isDryRun })
  try {
    await using registry = await openRegistry(environment, words)
    await using tree = await openSource(environment, words, path)
    const source = await findSource(tree)
    requireNoPrefix(source, words)
    const target = isDryRun ? new RehearsedTarget(registry) : registry
    const cache = new AdminCache(await connect(environment, words), { isDryRun })
    const migration = new Migration({ source, target, cache }, options, report)
    report.surveying(source.title)
    report.surveyed(await migration.survey())
    await migration.run()
    return report.finish() ? EXIT.ok : EXIT.failure
  } catch (error) {
    if (!(error instanceof SourceError || error instanceof TargetError)) throw error
    report.stopped(error.message)
    return EXIT.failure
  }
}

function onlyWord({ words }: ToolWords): string {
  const [path, extra] = words
  if (path === undefined)
    throw new ConfigError([
      wordProblem('import', 'needs a directory or a bucket', 'such as /var/lib/registry or s3://bucket'),
    ])
  if (extra !== undefined)
    throw new ConfigError([
      wordProblem(extra, 'is an unexpected argument', 'import takes one directory or bucket'),
    ])
  return path
}

async function openSource(environment: Environment, words: ToolWords, path: string): Promise<SourceTree> {
  const bucket = sourceBucket(environment, words, path)
  if (bucket !== undefined) return await environment.openBucket(bucket)
  const root = resolve(environment.cwd, path)
  const found = await stat(root).catch((error: unknown) => {
    throw new SourceError(`${root} cannot be read: ${String((error as NodeJS.ErrnoException).code)}`)
  })
  if (!found.isDirectory()) throw new SourceError(`${root} is not a directory`)
  return openDirectoryTree(root)
}

async function findSource(tree: SourceTree): Promise<MigrationSource> {
  // The store of this program, in the place of an oci-registry's, has a directory "repositories", too.
  const source = (await findOciRegistry(tree)) ?? (await findDistribution(tree))
  if (source !== undefined) return source
  throw new SourceError(
    `${tree.name} is not the storage of a registry: it has neither docker/registry/v2/repositories nor manifests`,
  )
}

function requireNoPrefix({ isCache }: MigrationSource, words: ToolWords): void {
  if (!isCache || words.text('prefix') === undefined) return
  throw new ConfigError([flagProblem('prefix', 'has no effect on a cache', 'its names have a registry')])
}

async function openRegistry({ env, cwd }: Environment, words: ToolWords): Promise<RegistryTarget> {
  const text = words.text('registry') ?? nonEmpty(env['ENTREPOT_REGISTRY']) ?? DEFAULT_REGISTRY
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isPlain = url !== undefined && url.pathname === '/' && url.search === '' && url.username === ''
  if (!isPlain || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw new ConfigError([flagProblem('registry', 'is not an address', `such as ${DEFAULT_REGISTRY}`)])
  const username = words.text('username') ?? nonEmpty(env['ENTREPOT_USERNAME'])
  const passwordFile = words.text('password-file') ?? nonEmpty(env['ENTREPOT_PASSWORD_FILE'])
  const caFile = words.text('ca-file')
  if ((username === undefined) !== (passwordFile === undefined)) {
    const missing = username === undefined ? 'username' : 'password-file'
    throw new ConfigError([flagProblem(missing, 'is missing', 'they belong together')])
  }
  const login =
    username === undefined || passwordFile === undefined
      ? undefined
      : { username, password: (await readText(cwd, 'password-file', passwordFile)).trim() }
  const ca = caFile === undefined ? undefined : await readText(cwd, 'ca-file', caFile)
  return new RegistryTarget({ url, login, ca, clock: systemClock })
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}

async function readText(cwd: string, flag: string, path: string): Promise<string> {
  try {
    return await readFile(resolve(cwd, path), 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new ConfigError([flagProblem(flag, `cannot be read: ${code ?? 'unknown error'}`, undefined)])
  }
}

function readOptions(words: ToolWords): MigrationOptions {
  const prefix = words.text('prefix')
  if (prefix !== undefined && parseImageName(`${prefix}/name`) === undefined)
    throw new ConfigError([
      flagProblem(
        'prefix',
        'is not the beginning of a name',
        'such as registry.example.com or docker.io/team',
      ),
    ])
  const patterns = words.list('only').map(text => text.split('/'))
  return {
    isWanted: name =>
      patterns.length === 0 || patterns.some(pattern => matchesComponents(pattern, name.split('/'))),
    targetName: name => (prefix === undefined ? name : `${prefix}/${name}`),
    isTaggedOnly: words.isOn('tagged-only'),
    movesTags: words.isOn('move-tags'),
    adviceOn: (refusal, name) => {
      if (refusal === 'rights') return 'give a login that may push, with --username and --password-file'
      return refusal === 'name' ? claimAdvice(name, prefix) : undefined
    },
  }
}

/** The claim that would let the target take a repository. */
function claimAdvice(name: string, prefix: string | undefined): string {
  const { host, path } = parseImageName(name) ?? { host: undefined, path: name }
  const full = `${host ?? 'docker.io'}/${path}`
  const pattern = full.split('/').length > 2 ? full.replace(/\/[^/]*$/, '/**') : `${host ?? 'docker.io'}/**`
  const claim = `add "- names: ${pattern}" to the section hosted of the upstream file`
  return prefix === undefined && host === undefined
    ? `${claim}, or give the repositories a registry of their own, such as --prefix registry.example.com`
    : claim
}
