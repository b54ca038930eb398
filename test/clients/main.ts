import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { parseArgs } from 'node:util'

const USAGE = `npm run test:clients                        real clients pull through the mirror, and push to it
npm run test:clients -- --matrix            every fault of an upstream x every client, beside a direct pull
npm run test:clients -- --matrix --quick    the same without the faults that take long
npm run test:clients -- --matrix --only TEXT    the rows whose title has the text
npm run test:clients -- --table FILE        with --matrix: writes the table as Markdown`

const { values } = parseArgs({
  options: {
    matrix: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    table: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) console.log(USAGE)
else {
  const files = globSync(values.matrix ? 'test/clients/matrix/*.clients.ts' : 'test/clients/*.clients.ts')
  const flags = ['--test', '--test-concurrency=1', '--test-reporter=spec']
  const { status } = spawnSync(process.execPath, [...flags, ...files.toSorted()], {
    stdio: 'inherit',
    env: {
      ...process.env,
      ...(values.quick ? { ENTREPOT_MATRIX: 'quick' } : {}),
      ...(values.only === undefined ? {} : { ENTREPOT_MATRIX_ONLY: values.only }),
      ...(values.table === undefined ? {} : { ENTREPOT_MATRIX_TABLE: values.table }),
    },
  })
  process.exitCode = status ?? 1
}
