import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { need, ROOT, runOk } from './tools.ts'

const CHART = join(ROOT, 'helm/entrepot')

interface Mount {
  readonly name: string
  readonly mountPath: string
}

interface RenderedContainer {
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly env?: readonly { readonly name: string; readonly value?: string }[]
  readonly volumeMounts: readonly Mount[]
  readonly livenessProbe?: Probe
  readonly readinessProbe?: Probe
  readonly startupProbe?: Probe
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string }
}

interface Volume {
  readonly name: string
  readonly secret?: { readonly secretName: string }
  readonly configMap?: { readonly name: string }
}

interface PodSpec {
  readonly initContainers?: readonly RenderedContainer[]
  readonly containers: readonly RenderedContainer[]
  readonly volumes?: readonly Volume[]
  readonly terminationGracePeriodSeconds: number
}

interface Rendered {
  readonly kind?: string
  readonly metadata?: { readonly name: string }
  readonly stringData?: Readonly<Record<string, string>>
  readonly data?: Readonly<Record<string, string>>
  readonly spec?: { readonly template?: { readonly spec: PodSpec } }
}

/** A process that a kubelet would start. */
export interface PodProcess {
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** The Pod of a workload of the chart, with its files in a directory instead of at their paths. */
export interface RenderedPod {
  /** What has to end before the container starts. */
  readonly init: readonly PodProcess[]
  readonly main: PodProcess
  /** Paths of its probes. */
  readonly probes: readonly string[]
}

/**
 * Renders the chart and does what a kubelet does for the first Pod of its workload: makes its volumes below a
 * directory, and reads the commands, arguments and environment of its containers. Only paths of volumes
 * change, by `rewrite` too.
 */
export async function renderPod(
  room: string,
  sets: readonly string[],
  rewrite: (word: string) => string = word => word,
): Promise<RenderedPod> {
  const flags = sets.flatMap(set => ['--set', set])
  const kube = ['--namespace', 'mirrors', '--kube-version', '1.34.0']
  const text = await runOk([need('helm'), 'template', 'release', CHART, ...kube, ...flags])
  const documents = parseAllDocuments(text).map(document => (document.toJS() ?? {}) as Rendered)
  const pod = documents.find(isWorkload)?.spec?.template?.spec
  if (pod === undefined) throw new Error('the chart has no workload')
  const containers = [...(pod.initContainers ?? []), ...pod.containers]
  const places = containers.flatMap(({ volumeMounts }) => volumeMounts)
  const mounts = [...new Map(places.map(mount => [mount.mountPath, mount])).values()]
  for (const { name, mountPath } of mounts) await fillVolume(join(room, mountPath), name, { pod, documents })
  const at = (word: string): string =>
    rewrite(mounts.reduce((text, { mountPath }) => text.replaceAll(mountPath, join(room, mountPath)), word))
  const processOf = ({ command = [], args = [], env = [] }: RenderedContainer): PodProcess => ({
    argv: [...command, ...args].map(at),
    env: Object.fromEntries(env.map(({ name, value = '' }) => [name, at(value)])),
  })
  const [main] = pod.containers
  if (main === undefined) throw new Error('the Pod has no container')
  const { livenessProbe, readinessProbe, startupProbe } = main
  const probes = [livenessProbe, readinessProbe, startupProbe].flatMap(probe => probe?.httpGet.path ?? [])
  return { init: (pod.initContainers ?? []).map(processOf), main: processOf(main), probes }
}

function isWorkload({ metadata, spec }: Rendered): boolean {
  return metadata?.name === 'release-entrepot' && spec?.template !== undefined
}

async function fillVolume(
  path: string,
  name: string,
  { pod, documents }: { readonly pod: PodSpec; readonly documents: readonly Rendered[] },
): Promise<void> {
  await mkdir(path, { recursive: true })
  const { secret, configMap } = pod.volumes?.find(volume => volume.name === name) ?? {}
  const wanted = secret?.secretName ?? configMap?.name
  if (wanted === undefined) return
  const kind = secret === undefined ? 'ConfigMap' : 'Secret'
  const found = documents.find(one => one.kind === kind && one.metadata?.name === wanted)
  for (const [key, text] of Object.entries({ ...found?.data, ...found?.stringData })) {
    await mkdir(dirname(join(path, key)), { recursive: true })
    await writeFile(join(path, key), text)
  }
}
