import { resolve } from 'node:path'
import type { Rewriting } from '../../admission/rewrite.ts'
import type { ListenAddress } from '../../config/config.ts'
import type { NamedFile } from '../../config/file/section.ts'
import { parseListen } from '../../config/listen.ts'
import { ConfigError, flagProblem, type Problem, wordProblem } from '../../config/problem.ts'
import { parseDuration } from '../../lib/duration.ts'
import { parseConfiguredNamespace } from '../../oci/namespace.ts'
import type { Environment } from '../environment.ts'
import type { ToolWords } from '../tool.ts'
import type { GateCertificate } from './gate-certificate.ts'
import { type Logging, readLogging } from './logging.ts'

export const DEFAULT_GATE_LISTEN = '0.0.0.0:8443'

export interface AdmissionOptions {
  readonly listen: Extract<ListenAddress, { readonly kind: 'tcp' }>
  readonly file: NamedFile
  readonly certificate: GateCertificate
  readonly rewriting: Rewriting | undefined
  readonly drainDelayMs: number
  readonly logging: Logging
}

/** Reads the flags of `entrepot admission`. Throws a {@link ConfigError} with every problem. */
export function readAdmissionOptions({ cwd }: Environment, words: ToolWords): AdmissionOptions {
  const problems: Problem[] = words.words.map(word =>
    wordProblem(word, 'is an unexpected argument', 'admission takes options only'),
  )
  const refuse = (flag: string, message: string, hint: string): void => {
    problems.push(flagProblem(flag, message, hint))
  }
  const listen = parseListen(words.text('listen') ?? DEFAULT_GATE_LISTEN, cwd)
  if (listen?.kind !== 'tcp') refuse('listen', 'is not a TCP address', `such as ${DEFAULT_GATE_LISTEN}`)
  const name = words.text('upstream-config-file')
  if (name === undefined) refuse('upstream-config-file', 'is missing', 'a file with a section admission')
  const certificate = readCertificate(cwd, words, refuse)
  const drainDelayMs = parseDuration(words.text('drain-delay') ?? '0s')
  if (drainDelayMs === undefined) refuse('drain-delay', 'is not a duration', 'such as 5s')
  const rewriting = readRewriting(words, refuse)
  const logging = readLogging(words, problems)
  if (
    problems.length > 0 ||
    listen?.kind !== 'tcp' ||
    name === undefined ||
    certificate === undefined ||
    drainDelayMs === undefined
  )
    throw new ConfigError(problems)
  const file = { name, path: resolve(cwd, name) }
  return { listen, file, certificate, rewriting, drainDelayMs, logging }
}

type Refuse = (flag: string, message: string, hint: string) => void

function readCertificate(cwd: string, words: ToolWords, refuse: Refuse): GateCertificate | undefined {
  const [cert, key] = [words.text('tls-cert'), words.text('tls-key')]
  const directory = words.text('self-signed')
  const names = words.list('name')
  if (directory !== undefined) {
    if (cert !== undefined || key !== undefined) refuse('self-signed', 'contradicts --tls-cert', 'keep one')
    return { kind: 'self-signed', directory: resolve(cwd, directory), names }
  }
  if (names.length > 0) refuse('name', 'has no effect without --self-signed', 'the certificate has its names')
  if (cert !== undefined && key !== undefined)
    return { kind: 'files', certFile: resolve(cwd, cert), keyFile: resolve(cwd, key) }
  const flag = cert === undefined ? 'tls-cert' : 'tls-key'
  refuse(flag, 'is missing', 'the API server speaks TLS only: a certificate and its key, or --self-signed')
  return undefined
}

function readRewriting(words: ToolWords, refuse: Refuse): Rewriting | undefined {
  const text = words.text('rewrite-to')
  const mirror = parseConfiguredNamespace(text ?? '')
  if (text !== undefined && mirror === undefined)
    refuse('rewrite-to', 'is not a host', 'such as mirror.example.com:8443')
  const texts = words.list('rewrite').flatMap(list => list.split(','))
  const registries = texts.map(parseConfiguredNamespace).filter(name => name !== undefined)
  if (registries.length < texts.length)
    refuse('rewrite', 'has something that is no registry', 'such as ghcr.io')
  if (texts.length > 0 && text === undefined)
    refuse('rewrite', 'has no effect without --rewrite-to', 'name it')
  return mirror === undefined ? undefined : { mirror, registries: texts.length === 0 ? 'all' : registries }
}
