import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Config, NotificationConfig } from '../config/config.ts'
import type { Clock } from '../lib/clock.ts'
import { version } from '../lib/package.ts'
import type { Events } from '../observe/events.ts'
import type { Endpoint } from '../observe/notifications/courier.ts'
import type { Notifications } from '../observe/notifications/notifications.ts'
import { parseSigningKey } from '../observe/notifications/signature.ts'
import { matchesName } from '../oci/name-pattern.ts'
import type { Resolve } from '../upstream/dial/resolve.ts'
import { Webhook } from '../upstream/webhook.ts'

export interface NotifyingParts {
  readonly notifications: Notifications
  readonly clock: Clock
  readonly events: Events
  readonly instance: string
  readonly resolve?: Resolve | undefined
}

/**
 * Begins to tell the configured endpoints. Throws if the file of a key or a certificate is unusable; then the
 * earlier endpoints stay.
 */
export async function notifyEndpoints(
  config: Config,
  endpoints: readonly NotificationConfig[],
  parts: NotifyingParts,
): Promise<void> {
  const { notifications, clock, events, instance } = parts
  if (config.isReadOnly === true && endpoints.length > 0)
    events.warned('nobody is notified: with --read-only there is no place for what is to be delivered')
  const wanted = config.isReadOnly === true ? [] : endpoints
  const opened = await Promise.all(wanted.map(async endpoint => await openEndpoint(config, endpoint, parts)))
  const { store } = config
  const directory = store.kind === 'filesystem' ? store.root : store.spoolDirectory
  const sender = { source: `/entrepot/${hostname()}`, instance }
  await notifications.start({ directory, sender, clock, events }, opened)
}

async function openEndpoint(
  { egress }: Config,
  config: NotificationConfig,
  parts: NotifyingParts,
): Promise<Endpoint> {
  const { name, format, types, names, caFile, allowAddresses, timeoutMs } = config
  const { clock, instance, resolve } = parts
  const url = config.url.reveal()
  const shared = {
    name,
    url,
    caFile,
    allowAddresses,
    timeoutMs,
    clock,
    instance,
    version: version(),
    resolve,
    egress,
  }
  const key = await readKey(config)
  const webhook = new Webhook(shared)
  return {
    name,
    format,
    key,
    types: new Set(types),
    wants: place =>
      place === undefined || names === undefined || names.some(pattern => matchesName(pattern, place)),
    post: async (headers, body, signal) => await webhook.post(headers, body, signal),
    close: async () => await webhook[Symbol.asyncDispose](),
  }
}

async function readKey({ name, secretFile }: NotificationConfig): Promise<Uint8Array | undefined> {
  if (secretFile === undefined) return undefined
  const key = parseSigningKey(await readFile(secretFile, 'utf8'))
  if (key !== undefined) return key
  throw new Error(
    `the secret of the endpoint ${name} has fewer than 24 bytes: openssl rand -hex 32 makes one`,
  )
}
