import { ask } from './ask.ts'

/** Asks a mirror's admin listener when the mirror started, in milliseconds since 1970. */
export async function startOf(admin: string, token: string | undefined): Promise<number> {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` }
  const { status, body } = await ask(`${admin}/_admin/v1/status`, { headers, timeoutMs: 5000 })
  const { startedAt } = (status === 200 ? JSON.parse(body.toString('utf8')) : {}) as { startedAt?: unknown }
  const startMs = typeof startedAt === 'string' ? Date.parse(startedAt) : Number.NaN
  if (Number.isNaN(startMs)) throw new Error(`it answered ${status} without a time of its start`)
  return startMs
}
