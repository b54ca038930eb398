/** Proxies on the way to registries. */
export const PROXY_SETTINGS = {
  'https-proxy': {
    environment: 'HTTPS_PROXY',
    type: 'secret',
    group: 'general',
    default: undefined,
    description: 'Proxy for connections to registries over https, opened by CONNECT',
    noun: 'the URL of a proxy',
    hint: 'such as http://proxy.example:3128 or https://user:password@proxy.example:3128',
  },
  'http-proxy': {
    environment: 'HTTP_PROXY',
    type: 'secret',
    group: 'general',
    default: undefined,
    description: 'Proxy for connections to registries over plain http, opened by CONNECT',
    noun: 'the URL of a proxy',
    hint: 'such as http://proxy.example:3128 or https://user:password@proxy.example:3128',
  },
  'proxy-bypass': {
    environment: 'NO_PROXY',
    type: 'text',
    group: 'general',
    default: undefined,
    description: 'Hosts, domains and address blocks to connect to without these proxies',
    noun: 'a list of hosts',
    hint: 'such as .corp.example,10.0.0.0/8',
  },
  'trust-egress-proxy': {
    environment: 'TRUST_EGRESS_PROXY',
    type: 'boolean',
    group: 'general',
    default: 'false',
    description: 'Reach registries that are not configured through a proxy too, which hides their addresses',
    noun: 'true or false',
    hint: 'write true or false',
  },
} as const
