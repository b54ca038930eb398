import { lookup } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ConfigError, flagProblem } from '../../config/problem.ts'
import { parseMirrorUrl } from '../clients/mirror-url.ts'
import type { Environment } from '../environment.ts'
import type { ToolWords } from '../tool.ts'
import { ClusterReader } from './cluster.ts'
import { accessByFile, accessOfPod } from './cluster-access.ts'
import { type ClusterKnowledge, findingsOf } from './cluster-findings.ts'
import { startOf } from './mirror-start.ts'
import { type PullingClient, recentClients } from './recent-clients.ts'
import type { Report } from './report.ts'

interface ClusterWish {
  readonly env: Environment['env']
  readonly kubeconfig: string | undefined
  readonly admin: string
  readonly adminTokenFile: string | undefined
}

/** Reads the options of `doctor --kubernetes`. Throws a {@link ConfigError}. */
export function readClusterWish({ cwd, env }: Environment, given: ToolWords): ClusterWish {
  const text = given.text('admin')
  const admin = text === undefined ? `http://127.0.0.1:${ownAdminPort(env)}` : parseMirrorUrl(text)?.url
  if (admin === undefined)
    throw new ConfigError([
      flagProblem('admin', 'is not an address', 'such as http://mirror-entrepot-metrics.entrepot.svc:8081'),
    ])
  const fileOf = (file: string | undefined): string | undefined =>
    file === undefined || file === '' ? undefined : resolve(cwd, file)
  return {
    env,
    kubeconfig: fileOf(given.text('kubeconfig') ?? env['KUBECONFIG']),
    admin,
    adminTokenFile: fileOf(given.text('admin-token-file') ?? env['ADMIN_TOKEN_FILE']),
  }
}

/** The port of the admin listener of the mirror whose environment this is. */
function ownAdminPort(env: Environment['env']): string {
  return /:([0-9]{1,5})$/.exec(env['ADMIN_LISTEN'] ?? '')?.[1] ?? '8081'
}

/** Reports of each node of a cluster whether it pulls through the mirror. */
export async function tellCluster(report: Report, wish: ClusterWish): Promise<void> {
  report.heading('nodes')
  try {
    const { kubeconfig, env } = wish
    const reader = new ClusterReader(
      kubeconfig === undefined ? await accessOfPod(env) : await accessByFile(kubeconfig),
    )
    const nodes = await reader.nodes()
    const mirrors = await askMirrors(wish)
    const optional = async <T>(what: string, asked: Promise<T>): Promise<T | undefined> => {
      try {
        return await asked
      } catch (error) {
        report.note(`${what} are left out: ${sentenceEnd(error)}.`)
        return undefined
      }
    }
    const pods = await optional('Pods of node-config', reader.nodeConfigPods())
    const pulls = await optional('Pulls that kubelets report', reader.pulls())
    const findings = findingsOf({ nodes, ...mirrors, nowMs: Date.now(), pods, pulls })
    for (const { kind, sentence } of findings) report[kind](sentence)
    if (nodes.length === 0) report.note('The cluster has no nodes.')
    if (pods?.length === 0)
      report.note('No node-config runs: nodes are configured by something else, if at all.')
  } catch (error) {
    const reason = sentenceEnd(error)
    report.wrong(/[.]$/.test(reason) ? reason : `The nodes cannot be compared: ${reason}.`)
  }
}

/** The clients of all mirrors behind the name of the admin listener. */
async function askMirrors(wish: ClusterWish): Promise<Pick<ClusterKnowledge, 'clients' | 'sinceMs'>> {
  const token =
    wish.adminTokenFile === undefined ? undefined : (await readFile(wish.adminTokenFile, 'utf8')).trim()
  const clients: PullingClient[] = []
  let sinceMs = 0
  for (const admin of await mirrorsBehind(wish.admin)) {
    try {
      clients.push(...(await recentClients(admin, token)))
      sinceMs = Math.max(sinceMs, await startOf(admin, token))
    } catch (error) {
      throw new Error(`the admin listener ${admin} did not answer: ${sentenceEnd(error)}`, { cause: error })
    }
  }
  return { clients, sinceMs }
}

const MIRRORS_MAX = 100

/** A headless Service has the address of each Pod. A certificate is for the name, so https keeps it. */
async function mirrorsBehind(admin: string): Promise<readonly string[]> {
  const url = new URL(admin)
  if (url.protocol !== 'http:') return [admin]
  const name = url.hostname.replaceAll(/[[\]]/g, '')
  const found = await lookup(name, { all: true, verbatim: true }).catch(() => [])
  const addresses = [...new Set(found.map(({ address }) => address))].slice(0, MIRRORS_MAX)
  if (addresses.length < 2 || name === 'localhost') return [admin]
  return addresses.map(
    address => `http://${address.includes(':') ? `[${address}]` : address}:${url.port || '80'}`,
  )
}

function sentenceEnd(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
