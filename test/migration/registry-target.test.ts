import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { RegistryTarget } from '../../src/migration/registry-target.ts'

for (const location of [undefined, '', 'http://[', 'https://other.example.com/v2/']) {
  test(`an upload that goes on at ${JSON.stringify(location)} ends the import with a sentence`, async () => {
    const server = createServer((_, response) =>
      response.writeHead(202, location === undefined ? {} : { location }).end(),
    )
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    try {
      await using target = new RegistryTarget({ url, login: undefined, ca: undefined, clock: systemClock })
      await assert.rejects(target.requirePush('team/app'), { name: 'TargetError', concerns: 'all' })
    } finally {
      server.close()
    }
  })
}
