import type { Reply } from '../../http/reply.ts'
import type { Asset } from './assets.ts'
import type { Html } from './html.ts'

/** Nothing inline, nothing from another host, and in no frame. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "style-src 'self'",
  "script-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join('; ')

/** Header fields of every answer to a browser. */
export const PAGE_HEADERS = {
  'Content-Security-Policy': CONTENT_SECURITY_POLICY,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
} as const

/** A page. No cache may keep it: it depends on who asks. */
export function htmlReply(status: number, page: Html, headers: Readonly<Record<string, string>> = {}): Reply {
  const bytes = Buffer.from(page.text)
  return {
    status,
    headers: {
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Length': String(bytes.byteLength),
      'Cache-Control': 'no-store',
      ...PAGE_HEADERS,
      ...headers,
    },
    body: { kind: 'bytes', bytes },
    outcome: undefined,
  }
}

/** Sends the browser on to a page. The address is relative, so that it holds below any path. */
export function seeOther(location: string, headers: Readonly<Record<string, string>> = {}): Reply {
  return {
    status: 303,
    headers: {
      Location: location,
      'Content-Length': '0',
      'Cache-Control': 'no-store',
      ...PAGE_HEADERS,
      ...headers,
    },
    body: { kind: 'none' },
    outcome: undefined,
  }
}

/** An asset, or 304 if the browser has it. */
export function assetReply({ bytes, contentType, name }: Asset, known: string | undefined): Reply {
  const etag = `"${name}"`
  const headers = {
    ETag: etag,
    'Cache-Control': 'public, max-age=31536000, immutable',
    ...PAGE_HEADERS,
  }
  if (known === etag) return { status: 304, headers, body: { kind: 'none' }, outcome: undefined }
  return {
    status: 200,
    headers: { 'Content-Type': contentType, 'Content-Length': String(bytes.byteLength), ...headers },
    body: { kind: 'bytes', bytes },
    outcome: undefined,
  }
}
