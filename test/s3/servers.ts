import { after, before, suite } from 'node:test'
import type { S3Server } from './rig/bucket.ts'
import { RADOSGW_PROGRAMS, startRadosgw } from './rig/radosgw.ts'
import { skipWithout } from './rig/requirements.ts'
import { SWIFT_PROGRAMS, startSwift } from './rig/swift.ts'

const SERVERS = [
  { name: 'radosgw', programs: RADOSGW_PROGRAMS, start: startRadosgw },
  { name: 'Swift', programs: SWIFT_PROGRAMS, start: startSwift },
] as const

/** Runs a suite against every real server, each started once; `server` gives it, once the tests run. */
export function againstServers(
  title: string,
  body: (server: () => S3Server) => void,
  names: readonly string[] = SERVERS.map(({ name }) => name),
): void {
  for (const { name, programs, start } of SERVERS) {
    if (!names.includes(name)) continue
    suite(`${name}: ${title}`, { skip: skipWithout(programs) }, () => {
      let server: S3Server | undefined
      before(async () => {
        server = await start()
      })
      after(async () => server?.[Symbol.asyncDispose]())
      body(() => {
        if (server === undefined) throw new Error(`${name} does not run`)
        return server
      })
    })
  }
}
