/** Settings of a well-known issuer, where the file does not say otherwise. */
export interface IssuerKind {
  readonly name?: string
  readonly issuer?: string
  readonly identity?: string
  readonly caFile?: string
  readonly tokenFile?: string
}

/** Files that Kubernetes mounts into each pod. */
const POD = '/var/run/secrets/kubernetes.io/serviceaccount'

export const ISSUER_KINDS = {
  github: {
    name: 'github',
    issuer: 'https://token.actions.githubusercontent.com',
    identity: '{repository}@{ref}',
  },
  gitlab: { name: 'gitlab', issuer: 'https://gitlab.com', identity: '{project_path}@{ref_path}' },
  kubernetes: {
    name: 'k8s',
    issuer: 'https://kubernetes.default.svc.cluster.local',
    identity: '{kubernetes.io/namespace}/{kubernetes.io/serviceaccount/name}',
    caFile: `${POD}/ca.crt`,
    tokenFile: `${POD}/token`,
  },
} as const satisfies Readonly<Record<string, IssuerKind>>
