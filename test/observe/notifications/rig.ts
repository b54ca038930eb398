import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Endpoint, Post, PostAnswer } from '../../../src/observe/notifications/courier.ts'
import type { Notice } from '../../../src/observe/notifications/notice.ts'
import { NOTICE_TYPES } from '../../../src/oci/notice-type.ts'

export interface Room extends AsyncDisposable {
  readonly directory: string
}

/** A directory that is removed after the test. */
export async function makeRoom(): Promise<Room> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-outbox-'))
  return {
    directory,
    [Symbol.asyncDispose]: async () => await rm(directory, { recursive: true, force: true }),
  }
}

export function noticeOf(id: string, subject: string | undefined, atMs = 1000): Notice {
  return { id, atMs, type: 'tag.moved', subject, data: { tag: 'a' } }
}

export interface Received {
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly id: string
  readonly subject: string
}

/** An endpoint whose answers a test decides. */
export interface PlayedEndpoint {
  readonly endpoint: Endpoint
  readonly received: Received[]
  /** Decides the answer to a request; an error is a request without an answer. */
  answer: (received: Received) => number | PostAnswer | Error
}

export function playEndpoint(overrides: Partial<Endpoint> = {}): PlayedEndpoint {
  const received: Received[] = []
  const post: Post = async (headers, body) => {
    const { id, subject = '' } = JSON.parse(body) as { id: string; subject?: string }
    const request = { headers, body, id, subject }
    received.push(request)
    const answer = await Promise.resolve(played.answer(request))
    if (answer instanceof Error) throw answer
    return typeof answer === 'number' ? { status: answer, retryAfterMs: undefined } : answer
  }
  const endpoint: Endpoint = {
    name: 'ci',
    format: 'cloudevents',
    key: undefined,
    types: new Set(NOTICE_TYPES),
    wants: () => true,
    post,
    ...overrides,
  }
  const played: PlayedEndpoint = { endpoint, received, answer: () => 204 }
  return played
}
