import type { IncomingMessage, ServerResponse } from 'node:http'
import { requireAdmissible } from '../../http/admit.ts'
import { failureOf } from '../../http/failure.ts'
import type { Reply } from '../../http/reply.ts'
import { OciError } from '../../oci/error.ts'
import { deleteImage } from '../routes.ts'
import { act, isAction } from './actions.ts'
import { type Asset, Assets } from './assets.ts'
import { Doorman } from './doorman.ts'
import { readForm } from './form-body.ts'
import { LiveFeed, type LivePart } from './live-feed.ts'
import { requireOwnForm, requireOwnReading } from './page-guard.ts'
import type { AdminPageParts, View, ViewContext, Viewer } from './page-parts.ts'
import { assetReply, htmlReply, seeOther } from './page-reply.ts'
import { Snapshots } from './snapshot.ts'
import { clientsView } from './views/clients.ts'
import { eventsView } from './views/events.ts'
import { failureView } from './views/failure-page.ts'
import { confirmView, imageView } from './views/image.ts'
import { imagesView } from './views/images.ts'
import { framed } from './views/layout.ts'
import { loginView } from './views/login.ts'
import { liveNow, nowView } from './views/now.ts'
import { policyView } from './views/policy.ts'
import { settingsView } from './views/settings.ts'
import { setupView } from './views/setup.ts'
import { WarmJobs } from './warm-jobs.ts'

/** A view, and whether it shows names. */
interface Shelf {
  readonly view: (context: ViewContext) => Promise<View>
  readonly isPublic?: true
}

/** A request, and who asks. */
interface Asking {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly viewer: Viewer
}

/** The pages by their path below the first one, which is empty. */
const VIEWS: ReadonlyMap<string, Shelf> = new Map<string, Shelf>([
  ['', { view: nowView, isPublic: true }],
  ['images', { view: imagesView }],
  ['image', { view: imageView }],
  ['confirm', { view: async context => await confirmView(context, deleteImage) }],
  ['clients', { view: clientsView }],
  ['setup', { view: setupView }],
  ['settings', { view: settingsView }],
  ['policy', { view: policyView }],
  ['events', { view: eventsView }],
])

/** Paths that are neither a view nor an action. */
const OTHERS: ReadonlySet<string> = new Set(['login', 'logout', 'live'])
const ASSET = /^(?:page|icon)\.[0-9a-f]{12}\.[a-z]+$/
const METHODS = 'GET, HEAD, POST'

/** The pages of the admin listener; `docs/page.md` describes them to operators. */
export class AdminPage implements AsyncDisposable {
  readonly #parts: AdminPageParts
  readonly #assets: Assets
  readonly #doorman: Doorman
  readonly #snapshots: Snapshots
  readonly #jobs = new WarmJobs()
  readonly #feed: LiveFeed

  private constructor(parts: AdminPageParts, assets: Assets, snapshots: Snapshots) {
    this.#parts = parts
    this.#assets = assets
    this.#doorman = new Doorman(parts)
    this.#snapshots = snapshots
    this.#feed = new LiveFeed({
      render: async sees => await this.#render(sees),
      failed: failedOf(parts),
      instance: parts.instance,
    })
  }

  static async open(parts: AdminPageParts): Promise<AdminPage> {
    const snapshots = await Snapshots.open({ ...parts, failed: failedOf(parts) })
    return new AdminPage(parts, await Assets.read(), snapshots)
  }

  /** True for the address of a page, or of something that pages load. */
  isFor(target: string): boolean {
    const path = pathOf(target)
    if (path === undefined) return false
    return VIEWS.has(path) || isAction(path) || OTHERS.has(path) || ASSET.test(path)
  }

  /** Answers a request; `undefined` if it has taken over the response. Failures become pages. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<Reply | undefined> {
    const path = pathOf(request.url ?? '') ?? ''
    let viewer: Viewer | undefined
    try {
      requireAdmissible(request, this.#parts.instance)
      const options = await this.#doorman.options()
      if (request.method === 'POST') {
        requireOwnForm(request, options)
        viewer = await this.#doorman.viewerOf(request)
        return await this.#change(path, { request, response, viewer })
      }
      if (request.method !== 'GET' && request.method !== 'HEAD')
        throw new OciError('UNSUPPORTED', 'a page can only be read')
      requireOwnReading(request, options)
      const asset = ASSET.test(path) ? this.#requireAsset(path) : undefined
      if (asset !== undefined) return assetReply(asset, request.headers['if-none-match'])
      viewer = await this.#doorman.viewerOf(request)
      return await this.#show(path, { request, response, viewer })
    } catch (error) {
      return this.#failure(error, viewer)
    } finally {
      // The connection can be used again only once the body is read.
      request.resume()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#feed[Symbol.dispose]()
    await this.#snapshots[Symbol.asyncDispose]()
    await this.#jobs[Symbol.asyncDispose]()
  }

  async #show(path: string, { request, response, viewer }: Asking): Promise<Reply | undefined> {
    if (path === 'login') return this.#page(200, loginView(viewer), viewer)
    if (path === 'live') return this.#listen(request, response, viewer)
    const shelf = VIEWS.get(path)
    if (shelf === undefined) throw new OciError('UNSUPPORTED', 'this address takes forms only')
    if (viewer.sees === 'numbers' && shelf.isPublic !== true) return seeOther('login')
    const query = new URLSearchParams((request.url ?? '').split('?', 2)[1])
    const { assets, parts, snapshots, jobs } = this.#own
    const view = await shelf.view({ assets, parts, snapshots, jobs, viewer, query, request })
    return this.#page(200, view, viewer, path === '' ? './' : path)
  }

  get #own(): Pick<ViewContext, 'assets' | 'parts' | 'snapshots' | 'jobs'> {
    return { assets: this.#assets, parts: this.#parts, snapshots: this.#snapshots, jobs: this.#jobs }
  }

  #listen(request: IncomingMessage, response: ServerResponse, viewer: Viewer): Reply | undefined {
    if (request.method === 'HEAD') throw new OciError('UNSUPPORTED', 'a stream has no length')
    const mayStay = async (): Promise<boolean> => (await this.#doorman.viewerOf(request)).sees === viewer.sees
    if (this.#feed.add(response, viewer.sees, mayStay)) return undefined
    throw new OciError('UNAVAILABLE', 'too many pages are open')
  }

  async #render(sees: Viewer['sees']): Promise<readonly LivePart[]> {
    return liveNow({ snapshot: await this.#snapshots.take(), jobs: this.#jobs.all, sees })
  }

  async #change(path: string, { request, response, viewer }: Asking): Promise<Reply> {
    const form = await readForm(request, response)
    if (path === 'login') return await this.#logIn(request, form, viewer)
    const { session, who, row } = viewer
    if (session === undefined) throw new OciError('UNAUTHORIZED', 'log in first')
    if (form.get('form') !== session.formToken)
      throw new OciError('DENIED', 'this form is not of this session: load its page again')
    if (path === 'logout') {
      const cookie = this.#doorman.logOut(request, viewer)
      return seeOther('./', { 'Set-Cookie': cookie })
    }
    const from = request.socket.remoteAddress
    const audit = (what: string): void =>
      this.#parts.events.audited({ action: 'admin', who, what, from, row })
    return seeOther(await act(path, form, { parts: { ...this.#parts, actor: who }, jobs: this.#jobs, audit }))
  }

  async #logIn(request: IncomingMessage, form: URLSearchParams, viewer: Viewer): Promise<Reply> {
    try {
      return seeOther('./', { 'Set-Cookie': await this.#doorman.logIn(request, form) })
    } catch (error) {
      const { status, message } = failureOf(error)
      if (status === 500) throw error
      return this.#page(status, loginView(viewer, message), viewer, 'login')
    }
  }

  #requireAsset(name: string): Asset {
    const asset = this.#assets.find(name)
    if (asset !== undefined) return asset
    throw new OciError('NAME_UNKNOWN', 'this file is of another version: load the page again')
  }

  #failure(error: unknown, viewer: Viewer = NOBODY): Reply {
    const failure = failureOf(error)
    if (failure.status === 500) this.#parts.events.warned('the admin page failed', { err: error })
    const headers: Record<string, string> = {}
    if (failure.status === 405) headers['Allow'] = METHODS
    if (failure.mustClose) headers['Connection'] = 'close'
    const page = framed(failureView(failure), this.#frame('', viewer))
    return htmlReply(failure.status, page, headers)
  }

  #page(status: number, view: View, viewer: Viewer, here = ''): Reply {
    return htmlReply(status, framed(view, this.#frame(here, viewer)))
  }

  #frame(here: string, viewer: Viewer): Parameters<typeof framed>[1] {
    return { assets: this.#assets, viewer, here, version: this.#parts.about.version }
  }
}

function failedOf({ events }: AdminPageParts): (error: unknown) => void {
  return error => events.warned('the admin page failed', { err: error })
}

const NOBODY: Viewer = {
  sees: 'numbers',
  who: 'anonymous',
  row: undefined,
  session: undefined,
  needsToken: true,
}

/** The last part of the path of a page; `undefined` for every other address. */
function pathOf(target: string): string | undefined {
  const [path = ''] = target.split('?', 1)
  return /^\/[a-z0-9.-]*$/.test(path) ? path.slice(1) : undefined
}
