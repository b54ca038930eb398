import * as z from 'zod'
import { ask, whyUnanswered } from './ask.ts'
import type { ClusterAccess } from './cluster-access.ts'

/** A node, as the API server knows it. */
export interface ClusterNode {
  readonly name: string
  /** Such as `containerd://2.1.4`. */
  readonly runtime: string
  /** Addresses of the node itself. */
  readonly addresses: readonly string[]
  /** Blocks of addresses of its Pods: a runtime that uses a host port may appear with one of them. */
  readonly podCidrs: readonly string[]
  readonly isReady: boolean
  /** Keys of taints that keep Pods away. */
  readonly taints: readonly string[]
}

/** A Pod of node-config. */
export interface NodeConfigPod {
  readonly name: string
  readonly node: string
  readonly isReady: boolean
  /** Why it is not ready, in words of the kubelet. */
  readonly reason: string | undefined
}

/** A pull that a kubelet reported. */
export interface KubeletPull {
  readonly node: string
  readonly image: string
  readonly atMs: number
}

/** Reads what the doctor needs of a cluster, by plain requests. Error messages are ends of sentences. */
export class ClusterReader {
  readonly #access: ClusterAccess

  constructor(access: ClusterAccess) {
    this.#access = access
  }

  async nodes(): Promise<readonly ClusterNode[]> {
    return (await this.#list('/api/v1/nodes', '', NODE)).map(nodeOf)
  }

  /** The Pods that the chart makes for node-config, whatever the release is called. */
  async nodeConfigPods(): Promise<readonly NodeConfigPod[]> {
    const query = '&labelSelector=app.kubernetes.io%2Fcomponent%3Dentrepot-node-config'
    return (await this.#list('/api/v1/pods', query, POD)).map(podOf)
  }

  /** The pulls that kubelets reported and the API server still has, usually those of the last hour. */
  async pulls(): Promise<readonly KubeletPull[]> {
    const events = await this.#list('/api/v1/events', '&fieldSelector=reason%3DPulled', EVENT)
    return events.flatMap(pullOf)
  }

  async #list<T>(path: string, query: string, item: z.ZodType<T>): Promise<readonly T[]> {
    const items: T[] = []
    let next = ''
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const continued = next === '' ? '' : `&continue=${encodeURIComponent(next)}`
      const list = await this.#get(`${path}?limit=${PAGE_ITEMS}${query}${continued}`, item)
      items.push(...list.items)
      next = list.metadata?.continue ?? ''
      if (next === '') return items
    }
    throw new Error(`${path} has more than ${PAGES_MAX * PAGE_ITEMS} objects`)
  }

  async #get<T>(target: string, item: z.ZodType<T>): Promise<ListOf<T>> {
    const { url, ca, token, certificate } = this.#access
    const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` }
    const options = { headers, ca, certificate, timeoutMs: 15_000 }
    const { status, body } = await ask(`${url}${target}`, options).catch((error: unknown) => {
      throw new Error(`the API server ${url} did not answer: ${whyUnanswered(error)}`, { cause: error })
    })
    const [path = ''] = target.split('?')
    if (status === 401) throw new Error(`the API server ${url} does not accept the credentials (401)`)
    if (status === 403)
      throw new Error(
        `${path} may not be listed with these credentials (403): the chart allows it with doctor.enabled`,
      )
    if (status !== 200) throw new Error(`the API server ${url} answered ${status} for ${path}`)
    const parsed = listOf(item).safeParse(JSON.parse(body.toString('utf8')))
    if (!parsed.success) throw new Error(`the API server ${url} answered no list for ${path}`)
    return parsed.data
  }
}

const PAGE_ITEMS = 100
const PAGES_MAX = 100

interface ListOf<T> {
  readonly items: readonly T[]
  readonly metadata?: { readonly continue?: string | undefined } | undefined
}

function listOf<T>(item: z.ZodType<T>): z.ZodType<ListOf<T>> {
  return z.object({
    items: z.array(item),
    metadata: z.object({ continue: z.string().optional() }).optional(),
  })
}

const CONDITIONS = z.array(z.object({ type: z.string(), status: z.string() })).optional()
const NAMED = z.object({ name: z.string() })

const NODE = z.object({
  metadata: NAMED,
  spec: z
    .object({
      podCIDRs: z.array(z.string()).optional(),
      taints: z.array(z.object({ key: z.string(), effect: z.string() })).optional(),
    })
    .optional(),
  status: z
    .object({
      addresses: z.array(z.object({ address: z.string() })).optional(),
      conditions: CONDITIONS,
      nodeInfo: z.object({ containerRuntimeVersion: z.string() }).optional(),
    })
    .optional(),
})

function nodeOf({ metadata, spec, status }: z.output<typeof NODE>): ClusterNode {
  return {
    name: metadata.name,
    runtime: status?.nodeInfo?.containerRuntimeVersion ?? '',
    addresses: (status?.addresses ?? []).map(({ address }) => address),
    podCidrs: spec?.podCIDRs ?? [],
    isReady: isReady(status?.conditions),
    taints: (spec?.taints ?? []).filter(({ effect }) => effect !== 'PreferNoSchedule').map(({ key }) => key),
  }
}

function isReady(conditions: z.output<typeof CONDITIONS>): boolean {
  return (conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'True')
}

const WAITING = z.object({ reason: z.string().optional(), message: z.string().optional() })

const POD = z.object({
  metadata: NAMED,
  spec: z.object({ nodeName: z.string().optional() }),
  status: z
    .object({
      conditions: CONDITIONS,
      containerStatuses: z
        .array(z.object({ state: z.object({ waiting: WAITING.optional() }).optional() }))
        .optional(),
    })
    .optional(),
})

function podOf({ metadata, spec, status }: z.output<typeof POD>): NodeConfigPod {
  const waiting = status?.containerStatuses?.map(({ state }) => state?.waiting).find(Boolean)
  return {
    name: metadata.name,
    node: spec.nodeName ?? '',
    isReady: isReady(status?.conditions),
    reason: waiting?.message ?? waiting?.reason,
  }
}

const EVENT = z.object({
  message: z.string().nullish(),
  lastTimestamp: z.string().nullish(),
  eventTime: z.string().nullish(),
  source: z.object({ host: z.string().optional() }).optional(),
  reportingInstance: z.string().nullish(),
})

function pullOf(event: z.output<typeof EVENT>): readonly KubeletPull[] {
  const [, image] = /^Successfully pulled image "([^"]{1,512})"/.exec(event.message ?? '') ?? []
  const atMs = Date.parse(event.lastTimestamp ?? event.eventTime ?? '')
  const node = event.source?.host ?? event.reportingInstance ?? ''
  return image === undefined || Number.isNaN(atMs) ? [] : [{ node, image, atMs }]
}
