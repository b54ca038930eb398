import { enableCompileCache } from 'node:module'
import { packageFile } from '../../lib/package.ts'

// As in main.ts: without its own compile cache, a thread compiles all of its modules again.
enableCompileCache(packageFile('node_modules', '.cache', 'entrepot'))
await import('./thread.ts')
