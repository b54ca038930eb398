import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Metafile } from 'esbuild'

// `npm run build`: makes `dist/`, the program of the package and of the image, from `src/`.

const ROOT = fileURLToPath(new URL('../', import.meta.url))

/**
 * Packages that every process loads when it starts. Without their comments and unused parts, they take less
 * memory. All others are loaded from `node_modules`, with their first use.
 */
const BUNDLED: ReadonlySet<string> = new Set(['lru-cache', 'pino', 'prom-client', 'yaml', 'yargs', 'zod'])

/** The program, and each thread that it starts: `new Worker` names these files. */
const ENTRIES = [
  'src/main.ts',
  'src/access/password-entry.ts',
  'src/content/index/catalogue-thread.ts',
  'src/http/threads/thread-entry.ts',
  'src/observe/notifications/outbox-thread.ts',
  'src/storage/filesystem/step-writer-thread.ts',
]

/** What CommonJS modules among the packages call to load modules of Node. */
const REQUIRE =
  "import { createRequire as createNodeRequire } from 'node:module'; const require = createNodeRequire(import.meta.url);"

async function main(): Promise<void> {
  const { dependencies, engines } = await readPackage(ROOT)
  await rm(join(ROOT, 'dist'), { recursive: true, force: true })
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ENTRIES,
    outdir: 'dist',
    // In one folder, a file finds its neighbours by the names that they have in `src/`.
    entryNames: '[name]',
    chunkNames: '[name]-[hash]',
    bundle: true,
    splitting: true,
    external: Object.keys(dependencies ?? {}).filter(name => !BUNDLED.has(name)),
    format: 'esm',
    platform: 'node',
    target: `node${/[0-9.]+/.exec(engines?.node ?? '')?.[0]}`,
    // Names and lines stay as they are, so that a stack trace can be read. Without them, one worker takes
    // 1 MiB less.
    legalComments: 'none',
    banner: { js: REQUIRE },
    tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
    metafile: true,
    logLevel: 'warning',
  })
  await writeFile(join(ROOT, 'dist/THIRD-PARTY-NOTICES.txt'), await notices(metafile))
}

interface Package {
  readonly name: string
  readonly version: string
  readonly license?: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly engines?: { readonly node?: string }
}

async function readPackage(folder: string): Promise<Package> {
  return JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Package
}

/** The licences of all packages of which the bundle contains code. They ask for their text beside it. */
async function notices({ outputs }: Metafile): Promise<string> {
  const inputs = Object.values(outputs).flatMap(output => Object.keys(output.inputs))
  const folders = inputs.flatMap(path => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? [])
  const texts = [...new Set(folders)].toSorted().map(async folder => await notice(join(ROOT, folder)))
  const head = 'The files in this folder contain code of these packages, under the licences below.\n'
  return [head, ...(await Promise.all(texts))].join(`\n${'-'.repeat(78)}\n\n`)
}

async function notice(folder: string): Promise<string> {
  const { name, version, license } = await readPackage(folder)
  const file = (await readdir(folder)).find(entry => /^licen[cs]e/i.test(entry))
  if (file === undefined && license === undefined) throw new Error(`${name} states no licence`)
  const text = file === undefined ? '' : `\n${await readFile(join(folder, file), 'utf8')}`
  return `${name} ${version}, ${license}\n${text}`
}

await main()
