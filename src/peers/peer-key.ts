import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { SharedKey } from '../http/tls/shared-key.ts'

/** Version of the protocol between replicas. Replicas of different versions ignore each other. */
const PROTOCOL = 1

/** Field of a request and of its answer that proves that the sender has the secret. */
export const PEER_FIELD = 'entrepot-peer'

/** Longest difference between the clocks of two replicas, in milliseconds. */
const SKEW_MAX_MS = 5 * 60_000

/** What a request says about its sender. */
export interface SignedRequest {
  readonly method: string
  readonly target: string
  readonly instance: string
  readonly nonce: string
  readonly atMs: number
}

/** Why a request is not from a replica of this cluster. */
export type StrangerReason = 'unsigned' | 'version' | 'cluster' | 'secret' | 'clock'

/**
 * The secret of a cluster. Requests and answers are signed with it (HMAC-SHA256) and never carry it. The name
 * of the cluster is part of the key, so that two clusters with one secret are strangers to each other.
 */
export class PeerKey {
  readonly cluster: string
  readonly #key: Buffer

  constructor(secret: string, cluster: string) {
    this.cluster = cluster
    this.#key = createHmac('sha256', secret).update(`entrepot peers ${cluster}`).digest()
  }

  /** The field of a request, and the nonce by which its answer is recognized. */
  signRequest(request: Omit<SignedRequest, 'nonce'>): { readonly field: string; readonly nonce: string } {
    const nonce = randomBytes(12).toString('hex')
    const { instance, atMs } = request
    const mac = this.#mac(requestText({ ...request, nonce }))
    return { field: [PROTOCOL, this.cluster, instance, Math.round(atMs), nonce, mac].join(' '), nonce }
  }

  /** The sender of a request, or why it is refused. */
  readRequest(
    { method, target, field }: { readonly method: string; readonly target: string; readonly field: unknown },
    nowMs: number,
  ): SignedRequest | StrangerReason {
    if (typeof field !== 'string') return 'unsigned'
    const [protocol, cluster = '', instance = '', at = '', nonce = '', mac = ''] = field.split(' ')
    if (protocol !== String(PROTOCOL)) return 'version'
    if (cluster !== this.cluster) return 'cluster'
    const request = { method, target, instance, nonce, atMs: Number(at) }
    if (!this.#isMac(requestText(request), mac)) return 'secret'
    return Math.abs(request.atMs - nowMs) > SKEW_MAX_MS ? 'clock' : request
  }

  /** The field of an answer. */
  signAnswer(instance: string, nonce: string, answer: string): string {
    return [PROTOCOL, instance, this.#mac(answerLines(instance, nonce, answer))].join(' ')
  }

  /** Name of the process that gave the answer, or why it is not from a replica of this cluster. */
  readAnswer(
    field: unknown,
    nonce: string,
    answer: string,
  ): { readonly instance: string } | 'version' | 'secret' {
    if (typeof field !== 'string') return 'secret'
    const [protocol, instance = '', mac = ''] = field.split(' ')
    if (protocol !== String(PROTOCOL)) return 'version'
    return this.#isMac(answerLines(instance, nonce, answer), mac) ? { instance } : 'secret'
  }

  /** The key of the connections between the replicas. */
  get tls(): SharedKey {
    const key = createHmac('sha256', this.#key).update('tls').digest()
    return { name: this.cluster, key }
  }

  #mac(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('base64url')
  }

  #isMac(text: string, given: string): boolean {
    const [ours, theirs] = [Buffer.from(this.#mac(text)), Buffer.from(given)]
    return ours.byteLength === theirs.byteLength && timingSafeEqual(ours, theirs)
  }
}

function requestText({ method, target, instance, atMs, nonce }: SignedRequest): string {
  return ['request', method, target, instance, Math.round(atMs), nonce].join('\n')
}

function answerLines(instance: string, nonce: string, answer: string): string {
  return ['answer', instance, nonce, answer].join('\n')
}
