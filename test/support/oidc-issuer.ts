import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'

/** An issuer of OIDC tokens, played in this process: its keys, and the documents that a client fetches. */
export interface PlayedIssuer {
  readonly url: string
  /** The documents, by their URL. Tests may change them. */
  readonly documents: Map<string, unknown>
  /** The URLs that were fetched, in order. */
  readonly fetched: string[]
  readonly fetch: (url: string) => Promise<unknown>
  /** Signs a token that is valid unless `claims` or `header` say otherwise. */
  readonly sign: (claims: JWTPayload, header?: { readonly kid?: string }) => Promise<string>
  /** Replaces the key; the documents have the new one only if they are published. */
  readonly rotate: (options: { readonly isPublished: boolean }) => Promise<void>
}

const ALGORITHM = 'ES256'

/** Plays an issuer whose tokens are for the audience `entrepot`, by a clock of the caller. */
export async function playIssuer(url: string, nowMs: () => number): Promise<PlayedIssuer> {
  let [kid, key] = ['1', (await generateKeyPair(ALGORITHM)).privateKey]
  const documents = new Map<string, unknown>()
  const fetched: string[] = []
  const keysUrl = `${url}/keys`
  const rotate: PlayedIssuer['rotate'] = async ({ isPublished }) => {
    const pair = await generateKeyPair(ALGORITHM, { extractable: true })
    ;[kid, key] = [String(Number(kid) + 1), pair.privateKey]
    const jwk = { ...(await exportJWK(pair.publicKey)), kid, alg: ALGORITHM }
    if (isPublished) documents.set(keysUrl, { keys: [jwk] })
  }
  await rotate({ isPublished: true })
  documents.set(`${url}/.well-known/openid-configuration`, { issuer: url, jwks_uri: keysUrl })
  return {
    url,
    documents,
    fetched,
    rotate,
    fetch: async asked => {
      fetched.push(asked)
      const document = documents.get(asked)
      if (document === undefined) throw new Error('there is no such document')
      return await Promise.resolve(document)
    },
    sign: async (claims, header = {}) => {
      const nowSeconds = Math.floor(nowMs() / 1000)
      const base = { iss: url, aud: 'entrepot', sub: 'x', iat: nowSeconds, exp: nowSeconds + 600 }
      return await new SignJWT({ ...base, ...claims })
        .setProtectedHeader({ alg: ALGORITHM, kid: header.kid ?? kid })
        .sign(key)
    },
  }
}
