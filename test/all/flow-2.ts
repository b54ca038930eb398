import { importPart } from '../support/import-tests.ts'

await importPart('flow', 1, 4)
