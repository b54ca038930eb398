import { formatDuration } from '../../lib/duration.ts'
import { contains, parseAddress, parseCidr } from '../../lib/ip-address.ts'
import type { ClusterNode, KubeletPull, NodeConfigPod } from './cluster.ts'
import type { PullingClient } from './recent-clients.ts'

/** What is known of a cluster and of its mirrors. */
export interface ClusterKnowledge {
  readonly nodes: readonly ClusterNode[]
  readonly clients: readonly PullingClient[]
  /** The start of the mirror that started last: no mirror knows of clients before its start. */
  readonly sinceMs: number
  readonly nowMs: number
  /** `undefined` if they may not be listed. */
  readonly pods: readonly NodeConfigPod[] | undefined
  /** `undefined` if they may not be listed. */
  readonly pulls: readonly KubeletPull[] | undefined
}

/** A sentence of the report about one node. */
export interface NodeFinding {
  readonly kind: 'good' | 'note' | 'wrong'
  readonly sentence: string
}

/** Prefixes of the user agents of pulls, by the scheme of a node's runtime. */
const AGENTS: ReadonlyMap<string, readonly string[]> = new Map([
  ['containerd', ['containerd/']],
  ['cri-o', ['cri-o/', 'containers/']],
  ['docker', ['docker/', 'buildkit/']],
])
const ALL_AGENTS = [...AGENTS.values()].flat()

/** Says of each node whether it pulls through the mirror, and if not, why. */
export function findingsOf(knowledge: ClusterKnowledge): readonly NodeFinding[] {
  const { nodes, clients, nowMs } = knowledge
  const found = nodes.map((node): NodeFinding => {
    const seen = clientsOf(node, clients).toSorted((a, b) => b.lastSeen.localeCompare(a.lastSeen))[0]
    const title = `${node.name} (${node.runtime === '' ? 'unknown runtime' : node.runtime})`
    if (seen === undefined) return unseen(title, node, knowledge)
    const agoMs = Math.max(0, Math.round((nowMs - Date.parse(seen.lastSeen)) / 1000) * 1000)
    return { kind: 'good', sentence: `${title} last pulled through the mirror ${formatDuration(agoMs)} ago.` }
  })
  return [...found, ...strangers(nodes, clients)]
}

function clientsOf(node: ClusterNode, clients: readonly PullingClient[]): readonly PullingClient[] {
  const agents = AGENTS.get(schemeOf(node)) ?? ALL_AGENTS
  return clients.filter(
    ({ address, userAgent }) =>
      agents.some(agent => userAgent.startsWith(agent)) && isAddressOf(node, address),
  )
}

function schemeOf({ runtime }: ClusterNode): string {
  return runtime.split('://')[0] ?? ''
}

function isAddressOf(node: ClusterNode, text: string): boolean {
  if (node.addresses.includes(text)) return true
  const address = parseAddress(text)
  return (
    address !== undefined &&
    node.podCidrs.some(block => {
      const cidr = parseCidr(block)
      return cidr !== undefined && contains(cidr, address)
    })
  )
}

function unseen(title: string, node: ClusterNode, knowledge: ClusterKnowledge): NodeFinding {
  const reasons = [...reasonsOf(node, knowledge.pods)]
  const past = (knowledge.pulls ?? [])
    .filter(({ node: name, atMs }) => name === node.name && atMs > knowledge.sinceMs)
    .toSorted((a, b) => b.atMs - a.atMs)[0]
  if (past !== undefined) {
    const agoMs = Math.max(0, Math.round((knowledge.nowMs - past.atMs) / 1000) * 1000)
    reasons.unshift(`it pulled ${past.image} ${formatDuration(agoMs)} ago, past the mirror`)
  }
  if (reasons.length > 0)
    return { kind: 'wrong', sentence: `${title} does not pull through the mirror: ${reasons.join('; ')}.` }
  const unknown =
    knowledge.pulls === undefined
      ? 'whether it pulled at all is not known'
      : 'nothing says that it pulled at all'
  return {
    kind: 'note',
    sentence: `${title} has not pulled through the mirror since the mirror started, and ${unknown}.`,
  }
}

function* reasonsOf(node: ClusterNode, pods: readonly NodeConfigPod[] | undefined): Generator<string> {
  if (!node.isReady) yield 'the node is not ready'
  const [scheme, version = ''] = node.runtime.split('://')
  const [, major, minor] = /^v?([0-9]+)\.([0-9]+)/.exec(version) ?? []
  if (scheme === 'containerd' && (major === '0' || (major === '1' && Number(minor) < 5)))
    yield `containerd ${version} reads no hosts.toml: 1.5 or newer does`
  if (scheme === 'docker') yield "dockerd uses a mirror for Docker Hub's images only"
  if (pods === undefined || pods.length === 0) return
  const pod = pods.find(({ node: name }) => name === node.name)
  if (pod === undefined) {
    const taints =
      node.taints.length === 0 ? '' : `, which its taints may keep away: ${node.taints.join(', ')}`
    yield `no Pod of node-config runs on it${taints}`
  } else if (!pod.isReady) {
    yield `its Pod ${pod.name} of node-config is not ready${pod.reason === undefined ? '' : `: ${pod.reason}`}`
  }
}

/** Runtimes at addresses of no node: something between hides the addresses of nodes. */
function strangers(nodes: readonly ClusterNode[], clients: readonly PullingClient[]): readonly NodeFinding[] {
  const names = clients
    .filter(
      ({ address, userAgent }) =>
        ALL_AGENTS.some(agent => userAgent.startsWith(agent)) &&
        !nodes.some(node => isAddressOf(node, address)),
    )
    .map(({ address, userAgent }) => `${address} (${userAgent.slice(0, 40)})`)
  if (names.length === 0) return []
  const shown = names.slice(0, 5).join(', ')
  return [
    {
      kind: 'note',
      sentence: `Runtimes also pulled from addresses of no node: ${shown}. If these are nodes, something on the way hides their addresses; service.externalTrafficPolicy Local of the chart does not.`,
    },
  ]
}
