/** Log levels by their names in the configuration, the most detailed first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const

export type LogLevel = (typeof LOG_LEVELS)[number]

/** Formats of the log: `auto` is `pretty` on a terminal and `json` otherwise. */
export const LOG_FORMATS = ['auto', 'json', 'pretty'] as const

export type LogFormat = (typeof LOG_FORMATS)[number]
