import { cancel } from './admin/cancel.ts'
import { events } from './admin/events.ts'
import { explain } from './admin/explain.ts'
import { gc } from './admin/gc.ts'
import { ls } from './admin/ls.ts'
import { pin, unpin } from './admin/pin.ts'
import { prune, rm } from './admin/rm.ts'
import { status } from './admin/status.ts'
import { tag, tags } from './admin/tags.ts'
import { token } from './admin/token.ts'
import { verify } from './admin/verify.ts'
import { warm } from './admin/warm.ts'
import { who } from './admin/who.ts'
import { completion } from './completion.ts'
import { credentialProvider } from './credential-provider.ts'
import { doctor } from './doctor.ts'
import { importRegistry } from './import.ts'
import { admission } from './kubernetes/admission.ts'
import { nodeConfig } from './kubernetes/node-config.ts'
import { policy } from './kubernetes/policy.ts'
import { verifyImage } from './kubernetes/verify-image.ts'
import { setup } from './setup.ts'
import type { Tool } from './tool.ts'

/** Commands with flags of their own that do not need the configuration of a mirror, by their first word. */
export const TOOLS: ReadonlyMap<string, Tool> = new Map<string, Tool>([
  ['setup', setup],
  ['credential-provider', credentialProvider],
  ['doctor', doctor],
  ['import', importRegistry],
  ['status', status],
  ['ls', ls],
  ['explain', explain],
  ['rm', rm],
  ['prune', prune],
  ['pin', pin],
  ['unpin', unpin],
  ['warm', warm],
  ['verify', verify],
  ['gc', gc],
  ['events', events],
  ['tags', tags],
  ['tag', tag],
  ['who', who],
  ['cancel', cancel],
  ['token', token],
  ['admission', admission],
  ['node-config', nodeConfig],
  ['policy', policy],
  ['verify-image', verifyImage],
  ['completion', completion],
])
