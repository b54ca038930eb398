import { OciError } from '../../oci/error.ts'
import { namedImage } from '../query.ts'
import { addPin, cancelFlow, deleteImage, removePin, streamWarming } from '../routes.ts'
import { moveTag, releaseTag } from '../tags.ts'
import { requireUpstream } from '../warm.ts'
import type { AdminPageParts } from './page-parts.ts'
import type { WarmJobs } from './warm-jobs.ts'

/** What an action works on. */
interface Acting {
  readonly parts: AdminPageParts
  readonly jobs: WarmJobs
  /** Writes what is about to be done to the audit log. */
  readonly audit: (what: string) => void
}

/** Does what a form asks for; resolves to the address to go on to. */
type Action = (acting: Acting, form: URLSearchParams) => Promise<string>

/** The forms that change something, by the path that they are sent to. */
const ACTIONS: ReadonlyMap<string, Action> = new Map<string, Action>([
  [
    'pin',
    async ({ parts }, form) => {
      const { image } = await addPin(parts, form)
      return pageOf(image, 'pinned')
    },
  ],
  [
    'unpin',
    async ({ parts }, form) => {
      const { image } = await removePin(parts, form)
      return pageOf(image, 'unpinned')
    },
  ],
  ['warm', warm],
  [
    'remove',
    async ({ parts }, form) => {
      const { image, objects, bytes } = await deleteImage(parts, form)
      const removed = { removed: image, objects: String(objects), bytes: String(bytes) }
      return `images?${new URLSearchParams(removed).toString()}`
    },
  ],
  [
    'roll-back',
    async ({ parts }, form) => {
      const { image } = await moveTag(parts, form)
      return pageOf(image, 'moved')
    },
  ],
  [
    'follow',
    async ({ parts }, form) => {
      const { image } = await releaseTag(parts, form)
      return pageOf(image, 'following')
    },
  ],
  [
    'cancel',
    async ({ parts }, form) => {
      await cancelFlow(parts, form)
      return './'
    },
  ],
])

/** True for a path that forms are sent to. */
export function isAction(path: string): boolean {
  return ACTIONS.has(path)
}

/** Does what a form asks for; resolves to the relative address to go on to. */
export async function act(path: string, form: URLSearchParams, acting: Acting): Promise<string> {
  const action = ACTIONS.get(path)
  if (action === undefined) throw new OciError('UNSUPPORTED', 'no form is sent to this address')
  const subject = form.get('image') ?? form.get('digest') ?? ''
  const digest = path === 'roll-back' ? ` ${form.get('digest') ?? ''}` : ''
  acting.audit(`page ${path} ${subject.slice(0, 1024)}${digest.slice(0, 200)}`)
  return await action(acting, form)
}

async function warm({ parts, jobs }: Acting, form: URLSearchParams): Promise<string> {
  const { name: image, source } = await namedImage(parts, form)
  requireUpstream(parts.hosting.isClaimed, source)
  const query = new URLSearchParams({ image })
  for (const platform of form.getAll('platform')) if (platform !== '') query.append('platform', platform)
  const by = parts.actor ?? 'administrator'
  if (jobs.start({ image, by }, signal => streamWarming(parts, query, signal)))
    return pageOf(image, 'warming')
  throw new OciError('UNAVAILABLE', 'as many images as may be are being warmed: wait for one to end')
}

function pageOf(image: string, done: string): string {
  return `image?${new URLSearchParams({ name: image, done }).toString()}`
}
