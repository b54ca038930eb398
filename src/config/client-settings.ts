/** Settings about what clients do: the audit log, and limits for each client. */
export const CLIENT_SETTINGS = {
  'audit-log': {
    environment: 'AUDIT_LOG',
    type: 'text',
    group: 'general',
    default: 'log',
    description: 'Audit log: a file, log (lines of the log) or off',
    noun: 'a path, log or off',
    hint: 'such as /var/log/entrepot/audit.log',
  },
  'client-requests': {
    environment: 'CLIENT_REQUESTS',
    type: 'text',
    group: 'general',
    default: 'unlimited',
    description:
      'Requests per second for each client, with bursts of ten times as many; more are answered 429',
    noun: 'a number of requests',
    hint: 'from 1 to 100000, or unlimited',
  },
  'client-downloads': {
    environment: 'CLIENT_DOWNLOADS',
    type: 'text',
    group: 'general',
    default: 'unlimited',
    description: 'Blobs that each client may download at the same time; more are answered 429',
    noun: 'a number of downloads',
    hint: 'from 1 to 100000, or unlimited',
  },
} as const
