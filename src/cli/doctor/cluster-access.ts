import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { parse } from 'yaml'
import * as z from 'zod'
import { hasCode } from '../../lib/system-error.ts'

/** How to reach the API server of a cluster. */
export interface ClusterAccess {
  /** Without a path at its end. */
  readonly url: string
  /** Its CA, as PEM; `undefined`: one that this machine trusts. */
  readonly ca: string | undefined
  readonly token: string | undefined
  /** A client certificate with its key, as PEM. */
  readonly certificate: { readonly cert: string; readonly key: string } | undefined
}

/** Where Kubernetes mounts the service account of a Pod. */
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/**
 * Reads how a Pod reaches its API server, by its service account. Error messages are whole sentences; so are
 * those of {@link accessByFile}.
 */
export async function accessOfPod(
  env: Readonly<Record<string, string | undefined>>,
  account = ACCOUNT,
): Promise<ClusterAccess> {
  const [host, port] = [env['KUBERNETES_SERVICE_HOST'], env['KUBERNETES_SERVICE_PORT']]
  if (host === undefined || port === undefined)
    throw new Error(
      'This is no Pod of a cluster, and no kubeconfig is given: name one with --kubeconfig, or in KUBECONFIG.',
    )
  const [ca, token] = [await readAccount(`${account}/ca.crt`), await readAccount(`${account}/token`)]
  const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  return { url: `https://${authority}`, ca, token: token.trim(), certificate: undefined }
}

async function readAccount(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    throw new Error(
      `${file} is missing: this Pod has no token of its service account. The chart mounts one with doctor.enabled.`,
      { cause: error },
    )
  }
}

const TEXT = z.string().optional()
const KUBECONFIG = z.object({
  'current-context': z.string(),
  contexts: z.array(
    z.object({ name: z.string(), context: z.object({ cluster: z.string(), user: z.string() }) }),
  ),
  clusters: z.array(
    z.object({
      name: z.string(),
      cluster: z.object({
        server: z.url({ protocol: /^https?$/ }),
        'certificate-authority': TEXT,
        'certificate-authority-data': TEXT,
      }),
    }),
  ),
  users: z.array(
    z.object({
      name: z.string(),
      user: z.object({
        token: TEXT,
        tokenFile: TEXT,
        'client-certificate': TEXT,
        'client-certificate-data': TEXT,
        'client-key': TEXT,
        'client-key-data': TEXT,
        exec: z.object({ command: z.string() }).optional(),
      }),
    }),
  ),
})

type User = z.output<typeof KUBECONFIG>['users'][number]['user']

/** Reads the current context of a kubeconfig: tokens and client certificates, no programs. */
export async function accessByFile(file: string): Promise<ClusterAccess> {
  const read = KUBECONFIG.safeParse(parse(await readFile(file, 'utf8')))
  if (!read.success) {
    const [issue] = read.error.issues
    throw new Error(
      `${file} is no kubeconfig: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}. Secrets of it are not shown.`,
    )
  }
  const { 'current-context': current, contexts, clusters, users } = read.data
  const context = contexts.find(({ name }) => name === current)?.context
  const cluster = clusters.find(({ name }) => name === context?.cluster)?.cluster
  const user = users.find(({ name }) => name === context?.user)?.user
  if (cluster === undefined || user === undefined)
    throw new Error(`${file} has no whole context ${current}: kubectl config get-contexts shows them.`)
  if (user.exec !== undefined)
    throw new Error(
      `${file} gets its token from the program ${user.exec.command}, which this command does not run: give a kubeconfig with a token (kubectl create token), or run it in a Pod of the mirror.`,
    )
  const content = async (data: string | undefined, path: string | undefined): Promise<string | undefined> => {
    if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8')
    return path === undefined ? undefined : await readFile(resolve(dirname(file), path), 'utf8')
  }
  return {
    url: cluster.server.replace(/\/+$/, ''),
    ca: await content(cluster['certificate-authority-data'], cluster['certificate-authority']),
    token: user.token ?? (await content(undefined, user.tokenFile))?.trim(),
    certificate: await certificateOf(user, content),
  }
}

async function certificateOf(
  user: User,
  content: (data: string | undefined, path: string | undefined) => Promise<string | undefined>,
): Promise<ClusterAccess['certificate']> {
  const cert = await content(user['client-certificate-data'], user['client-certificate'])
  const key = await content(user['client-key-data'], user['client-key'])
  return cert === undefined || key === undefined ? undefined : { cert, key }
}
