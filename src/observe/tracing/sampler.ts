import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace'
import type { TracingSettings } from './tracing.ts'

const NAMES = ['always_on', 'always_off', 'traceidratio'] as const

/**
 * The sampler that `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` name. By default every request is
 * traced unless its client says that it does not trace it.
 */
export function samplerOf(
  { sampler: name = '', samplerArgument }: Pick<TracingSettings, 'sampler' | 'samplerArgument'>,
  warned: (message: string) => void,
): Sampler {
  const root = NAMES.find(known => name === known || name === `parentbased_${known}`)
  if (root === undefined && name !== '')
    warned(`OTEL_TRACES_SAMPLER is not a sampler that is known here: ${name}; parentbased_always_on is used`)
  const ratio = root === 'traceidratio' ? ratioOf(samplerArgument, warned) : 1
  const sampler = rootOf(root ?? 'always_on', ratio)
  return root !== undefined && name === root ? sampler : new ParentBasedSampler({ root: sampler })
}

function rootOf(name: (typeof NAMES)[number], ratio: number): Sampler {
  switch (name) {
    case 'always_on':
      return new AlwaysOnSampler()
    case 'always_off':
      return new AlwaysOffSampler()
    case 'traceidratio':
      return new TraceIdRatioBasedSampler(ratio)
  }
}

function ratioOf(text = '1', warned: (message: string) => void): number {
  const ratio = Number(text)
  if (text.trim() !== '' && ratio >= 0 && ratio <= 1) return ratio
  warned(`OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1: ${text}; 1 is used`)
  return 1
}
