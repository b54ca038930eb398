import { ConfigError, flagProblem, wordProblem } from '../config/problem.ts'
import { parseBoolean } from '../config/reader.ts'
import type { SourceBucket } from '../migration/source.ts'
import type { Environment } from './environment.ts'
import type { ToolFlag, ToolWords } from './tool.ts'

/** Flags of the bucket of another registry. Its keys are in the environment: other users cannot read that. */
export const SOURCE_FLAGS = {
  'source-host': {
    type: 'text',
    value: 'URL',
    description: 'endpoint of the bucket, such as http://minio:9000; Amazon S3 by default [SOURCE_S3_HOST]',
  },
  'source-region': {
    type: 'text',
    value: 'NAME',
    description: 'region of the bucket [SOURCE_S3_REGION, default us-east-1]',
  },
  'source-path-style': {
    type: 'text',
    value: 'true|false',
    values: ['true', 'false'],
    description:
      'put the bucket name in the path; true by default with --source-host [SOURCE_S3_PATH_STYLE]; keys: [SOURCE_S3_ACCESS_KEY, SOURCE_S3_SECRET_KEY, default the credential chain of the SDK]',
  },
} as const satisfies Readonly<Record<string, ToolFlag>>

const BUCKET = /^s3:\/\/([A-Za-z0-9._-]{1,255})(?:\/(.*))?$/
const REGION = /^[A-Za-z0-9-]{1,64}$/

/** The bucket that a word names; `undefined` if it names a directory. */
export function sourceBucket({ env }: Environment, words: ToolWords, word: string): SourceBucket | undefined {
  if (!word.startsWith('s3://')) {
    const [given] = Object.keys(SOURCE_FLAGS).filter(flag => words.text(flag) !== undefined)
    if (given === undefined) return undefined
    throw new ConfigError([flagProblem(given, 'is about a bucket', 'name it as s3://bucket')])
  }
  const [, bucket, path = ''] = BUCKET.exec(word) ?? []
  if (bucket === undefined)
    throw new ConfigError([wordProblem('import', 'has a wrong bucket', 's3://bucket')])
  const text = (flag: keyof typeof SOURCE_FLAGS, variable: string): string | undefined =>
    words.text(flag) ?? nonEmptyText(env[variable])
  const endpoint = endpointOf(text('source-host', 'SOURCE_S3_HOST'))
  const region = text('source-region', 'SOURCE_S3_REGION') ?? 'us-east-1'
  const style = text('source-path-style', 'SOURCE_S3_PATH_STYLE')
  const isPathStyle = style === undefined ? endpoint !== undefined : parseBoolean(style)
  if (isPathStyle === undefined)
    throw new ConfigError([flagProblem('source-path-style', 'is neither true nor false', undefined)])
  if (!REGION.test(region))
    throw new ConfigError([flagProblem('source-region', 'is not a region', 'such as us-east-1')])
  const folder = path.replace(/^\/+|\/+$/g, '')
  const prefix = folder === '' ? '' : `${folder}/`
  return { bucket, prefix, endpoint, region, isPathStyle, credentials: credentialsOf(env) }
}

function endpointOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isWeb = url?.protocol === 'http:' || url?.protocol === 'https:'
  if (url === undefined || !isWeb || url.pathname !== '/' || url.username !== '')
    throw new ConfigError([flagProblem('source-host', 'is not an endpoint', 'such as http://minio:9000')])
  return url.origin
}

function credentialsOf(env: Environment['env']): SourceBucket['credentials'] {
  const accessKeyId = nonEmptyText(env['SOURCE_S3_ACCESS_KEY'])
  const secretAccessKey = nonEmptyText(env['SOURCE_S3_SECRET_KEY'])
  if (accessKeyId !== undefined && secretAccessKey !== undefined) return { accessKeyId, secretAccessKey }
  if (accessKeyId === undefined && secretAccessKey === undefined) return undefined
  const missing = accessKeyId === undefined ? 'SOURCE_S3_ACCESS_KEY' : 'SOURCE_S3_SECRET_KEY'
  throw new ConfigError([wordProblem(missing, 'is missing', 'the two keys belong together')])
}

function nonEmptyText(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}
