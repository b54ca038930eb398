import type { BatchSpanProcessorOptions } from '@opentelemetry/sdk-trace'

/** The variables, the option that each is, its default and its largest value. */
const VARIABLES = [
  ['OTEL_BSP_MAX_QUEUE_SIZE', 'maxQueueSize', 2048, 65_536],
  ['OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 'maxExportBatchSize', 512, 65_536],
  ['OTEL_BSP_SCHEDULE_DELAY', 'scheduledDelayMillis', 5000, 3_600_000],
  ['OTEL_BSP_EXPORT_TIMEOUT', 'exportTimeoutMillis', 30_000, 3_600_000],
] as const

type Variable = (typeof VARIABLES)[number]

/** The values of `OTEL_BSP_*` that are set, by the names of the variables. */
export type BatchTexts = Readonly<Partial<Record<Variable[0], string | undefined>>>

/** How finished spans wait for the collector, by the variables `OTEL_BSP_*`. Times are in milliseconds. */
export function batchesOf(
  texts: BatchTexts,
  warned: (message: string) => void,
): Required<Pick<BatchSpanProcessorOptions, Variable[1]>> {
  const options = VARIABLES.map(([name, option, usual, max]) => {
    const text = texts[name]?.trim() ?? ''
    const value = text === '' ? usual : Number(text)
    if (Number.isSafeInteger(value) && value >= 1 && value <= max) return [option, value] as const
    warned(`${name} is not a whole number from 1 to ${max}: ${text}; ${usual} is used`)
    return [option, usual] as const
  })
  return Object.fromEntries(options) as Record<Variable[1], number>
}
