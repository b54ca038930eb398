import { importPart } from '../support/import-tests.ts'

await importPart('flow', 3, 4)
