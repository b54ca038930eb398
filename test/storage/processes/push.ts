import { join } from 'node:path'
import { digestOf } from '../../../src/oci/digest.ts'
import { parseRepositoryName, parseTag } from '../../../src/oci/name.ts'
import { parseNamespace } from '../../../src/oci/namespace.ts'
import { StepWriter } from '../../../src/storage/filesystem/step-writer.ts'
import type { RecordName, StoreWrite } from '../../../src/storage/store.ts'
import { defined } from '../contract.ts'

const [, , root = ''] = process.argv
const place = {
  namespace: defined(parseNamespace('docker.io')),
  repository: defined(parseRepositoryName('team/app')),
}
const blob = digestOf(Buffer.from('{}'))

/** Writes what a push of a manifest writes, and prints its number once the writer says that it is durable. */
async function push(writer: StepWriter, number: number): Promise<void> {
  const bytes = Buffer.from(`manifest ${number}`)
  const digest = digestOf(bytes)
  const tag = defined(parseTag(`t${number}`))
  const record = (name: RecordName, content = ''): StoreWrite => ({
    kind: 'record',
    name,
    bytes: Buffer.from(content),
  })
  const holds = [
    record({ kind: 'hosted-hold', ...place, digest }),
    record({ kind: 'hosted-hold', ...place, digest: blob, by: digest }),
  ]
  await writer.write([holds], 'ordered')
  await writer.write(
    [
      [{ kind: 'content', digest, bytes }, record({ kind: 'hosted-tagged', ...place, digest, tag })],
      [record({ kind: 'hosted-manifest', ...place, digest }, '{}')],
      [record({ kind: 'hosted-tag', ...place, tag }, digest)],
    ],
    'durable',
  )
  process.stdout.write(`pushed ${number}\n`)
}

// A file system without a journal: a sync carries nothing but what is synced.
await using writer = new StepWriter({
  root,
  isOrdered: false,
  scratch: async () => await Promise.resolve(join(root, 'spool')),
})
await push(writer, 1)
await push(writer, 2)
await Promise.all([3, 4, 5, 6].map(async number => await push(writer, number)))
