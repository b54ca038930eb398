import { type AdminParts, handleAdmin } from '../admin/listener.ts'
import { AdminPage } from '../admin/page/admin-page.ts'
import type { AdminPageParts } from '../admin/page/page-parts.ts'
import { TrafficRecord } from '../admin/page/traffic-record.ts'
import { tokenInForce } from '../config/admin-token.ts'
import type { ShownValue } from '../config/file/section.ts'
import { formatOrigin } from '../config/problem.ts'
import { HttpServer } from '../http/server.ts'
import { version } from '../lib/package.ts'
import { trafficOf } from '../observe/traffic.ts'
import { Desk } from '../space/desk.ts'
import { type DaemonParts, storeName } from './parts.ts'
import { snippetsFor } from './snippets.ts'

/** Listens for administrators if that is configured; `undo` closes the listener. */
export async function listenForAdministration(
  parts: DaemonParts,
  undo: AsyncDisposableStack,
  settings: readonly ShownValue[] = [],
): Promise<string | undefined> {
  const { adminListen } = parts.config
  if (adminListen === undefined) return undefined
  const { copies } = parts.bareStore
  if (copies !== undefined) parts.metrics.countCopies(() => copies.status)
  const base = adminParts(parts, adminListen.kind === 'unix')
  const page = undo.use(await AdminPage.open({ ...base, ...pageParts(parts, settings) }))
  const admin = { ...base, page }
  const server = new HttpServer((request, response) => handleAdmin(admin, request, response))
  const address = await server.listen(adminListen)
  undo.defer(async () => {
    const closed = server.close()
    server.destroy()
    await closed
  })
  return address
}

function pageParts(
  { config, bareStore, events, clientServer }: DaemonParts,
  settings: readonly ShownValue[],
): Pick<AdminPageParts, 'trafficRecord' | 'settings' | 'served' | 'snippets'> {
  // A bucket may be that of several mirrors, and each write to it costs money.
  const isKept = config.store.kind === 'filesystem' && config.isReadOnly !== true
  const stored = {
    read: async () => await bareStore.readRecord({ kind: 'traffic' }),
    write: async (bytes: Uint8Array) => await bareStore.writeRecord({ kind: 'traffic' }, bytes, 'relaxed'),
  }
  return {
    trafficRecord: isKept ? new TrafficRecord({ stored, events }) : undefined,
    settings: settings.map(({ key, value, origin }) => ({
      name: key,
      value,
      origin: origin === undefined ? '' : formatOrigin(origin),
    })),
    served: () => clientServer.served,
    snippets: snippetsFor,
  }
}

function adminParts(
  {
    config,
    clock,
    events,
    metrics,
    mirror,
    claimed,
    inForce,
    space,
    scrub,
    runs,
    bareStore,
    recentPulls,
    threads,
    instance,
    notifications,
    identities,
    hosting,
    warming,
    peering,
  }: DaemonParts,
  isSocket: boolean,
): Omit<AdminParts, 'page'> {
  return {
    clock,
    mirror,
    robots: identities.robots,
    access: identities.access,
    claimed,
    directory: () => inForce.current.directory,
    names: () => inForce.current.names,
    desk: space === undefined ? undefined : new Desk(space),
    recentPulls,
    notifications,
    replicas: () => peering?.report(),
    hosting,
    recentClients: async () => {
      await threads?.report()
      return events.recentClients.list()
    },
    health: events.health,
    warming,
    traffic: async () => trafficOf([await metrics.snapshot(), ...((await threads?.metrics()) ?? [])]),
    jobs: async () => (config.isReadOnly === true ? [] : await runs.latest()),
    damagedRecords: () => events.damagedRecords,
    storeTrouble: () => events.storeTrouble,
    copies: () => bareStore.copies?.status,
    instance,
    events,
    renderMetrics: async () => await metrics.render(await threads?.metrics()),
    verify: signal => scrub.verify(signal),
    about: { version: version(), startedAtMs: clock.wallMs(), store: storeName(config) },
    currentToken: tokenInForce(config, () =>
      events.warned('the admin token file cannot be read or has no token; the token before stays in force'),
    ),
    isSocket,
  }
}
