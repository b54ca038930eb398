import { randomBytes } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { resolve } from 'node:path'
import { ConfigError, flagProblem, wordProblem } from '../config/problem.ts'
import { version } from '../lib/package.ts'
import { hasCode } from '../lib/system-error.ts'
import { basicText, type HostFiles } from './clients/client.ts'
import { RootedFiles } from './clients/host-files.ts'
import { parseMirrorUrl } from './clients/mirror-url.ts'
import { RefusedPath } from './clients/rooted-path.ts'
import { type ClientFindings, EVERY, type Inspect, routeOf } from './doctor/client-findings.ts'
import { enginesOf } from './doctor/engines.ts'
import { inspectContainerd, inspectK3s } from './doctor/inspect-containerd.ts'
import { inspectBuildkit, inspectContainers } from './doctor/inspect-containers.ts'
import { inspectDocker } from './doctor/inspect-docker.ts'
import { readClusterWish, tellCluster } from './doctor/kubernetes.ts'
import { checkMirror, parseTrialImage, type TrialImage } from './doctor/mirror-check.ts'
import { compare, recentClients } from './doctor/recent-clients.ts'
import { Report } from './doctor/report.ts'
import type { Environment } from './environment.ts'
import type { Tool, ToolWords } from './tool.ts'

const INSPECTS: readonly Inspect[] = [
  inspectDocker,
  inspectContainerd,
  inspectContainers,
  inspectBuildkit,
  inspectK3s,
]

/** `entrepot doctor`: reports which registries this machine's clients pull through a mirror, and problems. */
export const doctor: Tool = {
  usage: '[options]',
  description:
    "Find this machine's clients, report which registries they pull through the mirror, and test the mirror.\nExit codes: 0 no problem, 1 at least one problem.",
  flags: {
    mirror: {
      type: 'text',
      value: 'URL',
      description: 'address of the mirror; by default those in the configuration of the clients',
    },
    image: {
      type: 'text',
      value: 'NAME',
      description: 'image to pull through the mirror, default docker.io/library/alpine:latest',
    },
    admin: {
      type: 'text',
      value: 'URL',
      description:
        'admin listener of the mirror, for its list of recent clients; by default port 8081 of a mirror on this machine',
    },
    'admin-token-file': {
      type: 'text',
      value: 'FILE',
      description: 'token of that listener, if it needs one',
    },
    username: { type: 'text', value: 'NAME', description: 'user that clients log in to the mirror with' },
    'password-file': { type: 'text', value: 'FILE', description: 'password of --username' },
    ca: {
      type: 'text',
      value: 'FILE',
      description: 'CA certificate of the mirror, in addition to those of the system',
    },
    root: {
      type: 'text',
      value: 'DIR',
      description: 'directory to use as /, such as /host in a container',
    },
    kubernetes: {
      type: 'boolean',
      description:
        'report which nodes of a Kubernetes cluster pull through the mirror, instead of the clients of this machine',
    },
    kubeconfig: {
      type: 'text',
      value: 'FILE',
      description: 'how to reach the API server [KUBECONFIG]; by default the service account of the Pod',
    },
  },
  examples: [
    ['doctor', 'check the clients of this machine and their mirrors'],
    ['doctor --mirror http://mirror:8080', 'check one mirror'],
    [
      'doctor --kubernetes --kubeconfig ~/.kube/config',
      "check a cluster's nodes, with the admin listener of its mirror at port 8081 of this machine",
    ],
  ],
  run: async (environment, words) => {
    if (words.isOn('kubernetes')) {
      const report = new Report(environment)
      await tellCluster(report, readClusterWish(environment, words))
      return report.end()
    }
    const wish = readWish(environment, words)
    const report = new Report(environment)
    const denied = new Set<string>()
    const rooted = new RootedFiles(wish.root, environment.cwd)
    const files = readable(rooted, denied)
    const engines = enginesOf(rooted)
    const inspected = await Promise.all(INSPECTS.map(async inspect => await inspect(files, engines)))
    const inspections = inspected.filter(inspection => inspection !== undefined)
    tellRoutes(report, inspections)
    await tellOwnFiles(report, files, environment.env['HOME'])
    for (const path of denied)
      report.note(`${path} cannot be read by this user: its settings are not included.`)
    const mirrors = wish.mirror === undefined ? mirrorsOf(inspections) : [wish.mirror]
    await tellMirrors(report, mirrors, wish)
    await tellClients(report, { inspections, mirrors, wish })
    return report.end()
  },
}

interface DoctorWish {
  readonly root: string
  readonly mirror: string | undefined
  readonly image: TrialImage
  readonly admin: string | undefined
  readonly adminTokenFile: string | undefined
  readonly caFile: string | undefined
  readonly login: { readonly username: string; readonly passwordFile: string } | undefined
  /** User agent of the doctor, which identifies it in the mirror's list of clients. */
  readonly userAgent: string
}

function readWish(environment: Environment, given: ToolWords): DoctorWish {
  const problems = given.words.map(word =>
    wordProblem(word, 'is an unexpected argument', 'doctor takes options only'),
  )
  const urlOf = (flag: string): string | undefined => {
    const text = given.text(flag)
    const url = text === undefined ? undefined : parseMirrorUrl(text)?.url
    if (text !== undefined && url === undefined)
      problems.push(
        flagProblem(flag, 'is not an address', 'such as http://mirror.example.com:8080, without a path'),
      )
    return url
  }
  const [mirror, admin] = [urlOf('mirror'), urlOf('admin')]
  const image = parseTrialImage(given.text('image') ?? 'docker.io/library/alpine:latest')
  if (image === undefined)
    problems.push(flagProblem('image', 'is not the name of an image', 'such as ghcr.io/owner/name:tag'))
  const fileOf = (flag: string): string | undefined => {
    const text = given.text(flag)
    const file = text === undefined ? undefined : resolve(environment.cwd, text)
    if (file !== undefined && !isReadable(file))
      problems.push(flagProblem(flag, 'names a file that cannot be read', undefined))
    return file
  }
  const [adminTokenFile, caFile] = [fileOf('admin-token-file'), fileOf('ca')]
  const [username, passwordFile] = [given.text('username'), fileOf('password-file')]
  if ((username === undefined) !== (passwordFile === undefined))
    problems.push(flagProblem('username', 'and --password-file belong together', undefined))
  if (problems.length > 0 || image === undefined) throw new ConfigError(problems)
  return {
    root: resolve(environment.cwd, given.text('root') ?? '/'),
    mirror,
    image,
    admin,
    adminTokenFile,
    caFile,
    login: username === undefined || passwordFile === undefined ? undefined : { username, passwordFile },
    userAgent: `entrepot-doctor/${version()} (${randomBytes(6).toString('hex')})`,
  }
}

/** The login as clients send it. */
async function authorizationOf({ login }: DoctorWish): Promise<string | undefined> {
  if (login === undefined) return undefined
  const password = (await readFile(login.passwordFile, 'utf8')).trim()
  return `Basic ${basicText({ username: login.username, password })}`
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK)
    return true
  } catch {
    return false
  }
}

/** Registries that are reported even if no client has settings for them. */
const ALWAYS_TOLD: readonly string[] = ['docker.io', 'ghcr.io', 'quay.io', 'registry.k8s.io']

function tellRoutes(report: Report, inspections: readonly ClientFindings[]): void {
  if (inspections.length === 0) report.heading('No known client is installed or configured.')
  const named = inspections.flatMap(({ routes }) => [...routes.keys()])
  const registries = [...new Set([...ALWAYS_TOLD, ...named])].filter(name => name !== EVERY)
  for (const inspection of inspections) {
    report.heading(inspection.client)
    const through = Map.groupBy(registries, registry => {
      const route = routeOf(inspection, registry)
      return route === undefined ? undefined : `${route.mirror} (${route.file})`
    })
    for (const [mirror, names] of through)
      if (mirror !== undefined) report.good(`${names.join(', ')}: through ${mirror}.`)
    const every = inspection.routes.get(EVERY)
    if (every !== undefined) report.good(`Every other registry: through ${every.mirror} (${every.file}).`)
    else if (inspection.routes.size === 0) report.note('No registry goes through a mirror.')
    else
      report.note(
        `${[...(through.get(undefined) ?? []), 'every other registry'].join(', ')}: directly, past the mirror.`,
      )
    for (const note of inspection.notes) report.note(note)
    for (const wrong of inspection.wrongs) report.wrong(wrong)
  }
}

/** Treats files that this user may not read as absent, and adds them to `denied`. */
function readable(files: HostFiles, denied: Set<string>): HostFiles {
  const look = async <T>(path: string, looked: Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await looked
    } catch (error) {
      const isDenied = hasCode(error, 'EACCES', 'EPERM', 'EISDIR', 'ELOOP', 'EIO')
      if (!isDenied && !(error instanceof RefusedPath)) throw error
      denied.add(path)
      return otherwise
    }
  }
  return {
    read: async path => await look(path, files.read(path), undefined),
    list: async path => await look<readonly string[]>(path, files.list(path), []),
  }
}

/** Notes a configuration file of the user, which rootless Podman reads instead of the machine's. */
async function tellOwnFiles(report: Report, files: HostFiles, home: string | undefined): Promise<void> {
  const own = `${home ?? ''}/.config/containers/registries.conf`
  if (home === undefined || (await files.read(own)) === undefined) return
  report.note(`${own} exists: rootless Podman reads it instead of /etc/containers/registries.conf.`)
}

function mirrorsOf(inspections: readonly ClientFindings[]): readonly string[] {
  return [...new Set(inspections.flatMap(({ routes }) => [...routes.values()].map(({ mirror }) => mirror)))]
}

async function tellMirrors(report: Report, mirrors: readonly string[], wish: DoctorWish): Promise<void> {
  report.heading('mirror')
  if (mirrors.length === 0)
    report.wrong(
      'No client here uses a mirror, and --mirror is not given: `entrepot setup` configures clients.',
    )
  const ca = await readOwn(wish.caFile)
  const authorization = await authorizationOf(wish)
  for (const mirror of mirrors) {
    const { image, userAgent } = wish
    const { goods, wrongs } = await checkMirror({ mirror, image, ca, userAgent, authorization })
    for (const good of goods) report.good(good)
    for (const wrong of wrongs) report.wrong(wrong)
  }
}

interface Comparison {
  readonly inspections: readonly ClientFindings[]
  readonly mirrors: readonly string[]
  readonly wish: DoctorWish
}

async function tellClients(report: Report, { inspections, mirrors, wish }: Comparison): Promise<void> {
  report.heading('recent clients of the mirror')
  const admin = wish.admin ?? mirrors.map(adminOnThisMachine).find(url => url !== undefined)
  if (admin === undefined) {
    report.note(
      'Skipped: the mirror is on another machine. Give its admin listener with --admin, if it is reachable from here.',
    )
    return
  }
  try {
    const token = await readOwn(wish.adminTokenFile)
    const clients = await recentClients(admin, token)
    const sentences = compare(inspections, clients, wish.userAgent, Date.now())
    if (sentences.length === 0) report.note('No client here uses a mirror.')
    for (const sentence of sentences) report.note(sentence)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    report.note(`Skipped: the admin listener ${admin} did not answer: ${reason}.`)
  }
}

/** A file that was named on the command line. */
async function readOwn(file: string | undefined): Promise<string | undefined> {
  return file === undefined ? undefined : (await readFile(file, 'utf8')).trim()
}

const ADMIN_PORT = 8081

function adminOnThisMachine(mirror: string): string | undefined {
  if (!URL.canParse(mirror)) return undefined
  const host = new URL(mirror).hostname.replaceAll(/[[\]]/g, '')
  const own = Object.values(networkInterfaces()).flatMap(found => (found ?? []).map(({ address }) => address))
  const isHere = host === 'localhost' || host.startsWith('127.') || host === '::1' || own.includes(host)
  return isHere ? `http://127.0.0.1:${ADMIN_PORT}` : undefined
}
