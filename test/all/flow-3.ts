import { importPart } from '../support/import-tests.ts'

await importPart('flow', 2, 4)
