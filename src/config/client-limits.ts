import { resolve } from 'node:path'
import type { Config } from './config.ts'
import type { SettingsReader } from './reader.ts'

const LIMIT_MAX = 100_000

/** Reads the settings about clients. */
export function readClientSettings(
  reader: SettingsReader,
  cwd: string,
): Required<Pick<Config, 'auditLog' | 'clientLimits'>> {
  const audit = reader.parse(reader.find('audit-log'), text => (text.includes('\0') ? undefined : text))
  return {
    auditLog:
      audit === undefined || audit === 'log' || audit === 'off'
        ? (audit ?? 'log')
        : { file: resolve(cwd, audit) },
    clientLimits: {
      requestsPerSecond: parseLimit(reader, 'client-requests'),
      downloads: parseLimit(reader, 'client-downloads'),
    },
  }
}

function parseLimit(
  reader: SettingsReader,
  flag: 'client-requests' | 'client-downloads',
): number | undefined {
  const limit = reader.parse(reader.find(flag), text => {
    if (text === 'unlimited') return text
    const number = /^[0-9]{1,6}$/.test(text) ? Number(text) : 0
    return number >= 1 && number <= LIMIT_MAX ? number : undefined
  })
  return limit === 'unlimited' ? undefined : limit
}
