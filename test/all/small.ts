import { importTests } from '../support/import-tests.ts'

await importTests('access', 'admission', 'config', 'lib', 'oci')
