import { type Finished, run } from '../../packaging/rig/tools.ts'
import type { Cluster } from './cluster.ts'
import { ENTREPOT } from './daemon.ts'

interface Pod {
  readonly spec: { readonly containers: readonly { readonly args: readonly string[] }[] }
}

interface ServiceObject {
  readonly spec: { readonly clusterIP: string; readonly ports: readonly { readonly port: number }[] }
}

/** `host:port` of a Service, at which a listener of this machine is that Service. */
export async function serviceAddress(cluster: Cluster, name: string, namespace: string): Promise<string> {
  const { spec } = await cluster.get<ServiceObject>('service', name, namespace)
  return `${spec.clusterIP}:${spec.ports[0]?.port ?? 0}`
}

/**
 * Plays the kubelet for a Pod that runs to its end: waits until the Pod exists, runs this program with the
 * arguments of its first container, and writes how it ended into the status. Names of Services become their
 * addresses, as there is no DNS of a cluster.
 */
export async function playPod(cluster: Cluster, name: string, namespace: string): Promise<Finished> {
  await cluster.kubectl('wait', '--for=create', `pod/${name}`, '--namespace', namespace, '--timeout=60s')
  const { spec } = await cluster.get<Pod>('pod', name, namespace)
  const args = await Promise.all(
    (spec.containers[0]?.args ?? []).map(async word => await addressed(cluster, word)),
  )
  const finished = await run([...ENTREPOT, ...args])
  const phase = finished.code === 0 ? 'Succeeded' : 'Failed'
  const status = ['--subresource=status', '--type=merge', '--patch', JSON.stringify({ status: { phase } })]
  await cluster.kubectl('patch', 'pod', name, '--namespace', namespace, ...status)
  return finished
}

async function addressed(cluster: Cluster, word: string): Promise<string> {
  const [, name = '', namespace = '', rest = ''] = /^([a-z0-9-]+)\.([a-z0-9-]+)\.svc(.*)$/.exec(word) ?? []
  if (name === '') return word
  const { spec } = await cluster.get<ServiceObject>('service', name, namespace)
  return `${spec.clusterIP}${rest}`
}
