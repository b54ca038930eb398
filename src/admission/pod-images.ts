/** An image of a Pod, and where its name stands. */
export interface PlacedImage {
  readonly image: string
  /** A JSON pointer (RFC 6901). */
  readonly pointer: string
}

/** An object with the specification of a Pod in it. */
export interface PodSpec {
  readonly spec: JsonObject
  /** JSON pointer of the specification. */
  readonly pointer: string
}

/** A value of JSON that is neither a list nor a plain value. */
export type JsonObject = Readonly<Record<string, unknown>>

/** Where the kinds that make Pods have their specification. */
const TEMPLATES: ReadonlyMap<string, readonly string[]> = new Map([
  ['Pod', ['spec']],
  ['PodTemplate', ['template', 'spec']],
  ['ReplicationController', ['spec', 'template', 'spec']],
  ['ReplicaSet', ['spec', 'template', 'spec']],
  ['Deployment', ['spec', 'template', 'spec']],
  ['StatefulSet', ['spec', 'template', 'spec']],
  ['DaemonSet', ['spec', 'template', 'spec']],
  ['Job', ['spec', 'template', 'spec']],
  ['CronJob', ['spec', 'jobTemplate', 'spec', 'template', 'spec']],
])

/** The specification of the Pods that an object is or makes; `undefined` if its kind has none. */
export function podSpecOf(kind: string, object: unknown): PodSpec | undefined {
  const path = TEMPLATES.get(kind)
  if (path === undefined) return undefined
  const spec = objectOf(path.reduce<unknown>((at, key) => objectOf(at)?.[key], object))
  return spec === undefined ? undefined : { spec, pointer: `/${path.join('/')}` }
}

const CONTAINERS = ['initContainers', 'containers', 'ephemeralContainers'] as const

/**
 * Every image of a specification: of its containers of all three kinds, and of its image volumes. A container
 * without a text as its image has the empty one, which is no name of an image.
 */
export function imagesOf({ spec, pointer }: PodSpec): readonly PlacedImage[] {
  const containers = CONTAINERS.flatMap(key =>
    listOf(spec[key]).map((container, index) => ({
      image: textOf(objectOf(container)?.['image']),
      pointer: `${pointer}/${key}/${index}/image`,
    })),
  )
  const volumes = listOf(spec['volumes']).flatMap((volume, index) => {
    const source = objectOf(objectOf(volume)?.['image'])
    if (source === undefined) return []
    return [{ image: textOf(source['reference']), pointer: `${pointer}/volumes/${index}/image/reference` }]
  })
  return [...containers, ...volumes]
}

/** A value as an object; `undefined` for anything else. */
export function objectOf(value: unknown): JsonObject | undefined {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isObject ? (value as JsonObject) : undefined
}

/** A value as text, which is empty for anything else. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
