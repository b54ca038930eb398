import type { Access } from '../../access/access.ts'
import type { IdentityChain } from '../../access/chain.ts'
import type { Events } from '../../observe/events.ts'
import { OciError } from '../../oci/error.ts'
import { ANONYMOUS } from '../../oci/identity.ts'
import type { NameRules } from '../../oci/place.ts'
import type { HttpExchange } from '../exchange.ts'
import { API_VERSION, type Reply, withHeaders } from '../reply.ts'
import type { Route } from '../route.ts'
import { answerCatalog, type CatalogParts } from './catalog.ts'
import { answerBase } from './probes.ts'
import { answerToken } from './token.ts'

/** What replies without a name are made from. */
export interface PlainParts {
  readonly access: Access
  /** Exchanges credentials for tokens; only the first thread has it. */
  readonly chain?: Pick<IdentityChain, 'audited' | 'certified' | 'exchange' | 'triedName'>
  readonly events: Events
  /** Rules in force for resolving names. A reload returns a different object. */
  readonly names: () => NameRules
  /** Everything that is hosted or cached, in any order. */
  readonly repositories?: CatalogParts['repositories']
}

/** The reply to a request of the API that names no repository; `undefined` for any other. */
export function plainReply(
  parts: PlainParts,
  exchange: HttpExchange,
  route: Route,
): Reply | Promise<Reply> | undefined {
  const { access, chain, events, names } = parts
  const { identity } = exchange
  if (route.kind === 'base') {
    if (!access.mayEnter(identity ?? ANONYMOUS)) throw new OciError('UNAUTHORIZED', 'log in first')
    return withHeaders(answerBase(), API_VERSION)
  }
  if (route.kind === 'catalog') {
    const catalog = { repositories: parts.repositories, defaultNamespace: names().defaultNamespace, access }
    return answerCatalog(catalog, identity ?? ANONYMOUS, route.page).then(reply =>
      withHeaders(reply, API_VERSION),
    )
  }
  if (route.kind === 'token' && chain !== undefined)
    return answerToken({ chain, access, events, names: names() }, exchange)
  return undefined
}
