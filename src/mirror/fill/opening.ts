import type { Spool } from './spool.ts'

/**
 * State of a fill once the upstream has answered. `stored`: an earlier fill of this process has just stored
 * the blob. `absent`: the upstream does not have it. `unspoolable`: there is no room to store it, or no file
 * to write it to.
 */
export type Opening =
  | { readonly kind: 'open'; readonly spool: Spool }
  | { readonly kind: 'stored' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unspoolable' }
