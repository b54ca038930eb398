import { mkdir, writeFile } from 'node:fs/promises'
import { freePort } from '../test/clients/rig/ports.ts'
import type { Room, Started } from './room.ts'

/** Starts nginx with one worker and the given configuration of its server. */
interface NginxPlan {
  readonly name: string
  readonly http?: readonly string[]
  readonly server: readonly string[]
}

/** A certificate, and an address that uses it besides the plain one. */
export interface NginxTls {
  readonly address: string
  readonly certFile: string
  readonly keyFile: string
}

/** Starts nginx over the files of a directory. */
export async function startNginxStatic(
  room: Room,
  name: string,
  root: string,
  tls?: NginxTls,
): Promise<Started> {
  const encrypted =
    tls === undefined
      ? []
      : [
          `listen ${tls.address} ssl;`,
          `ssl_certificate ${tls.certFile};`,
          `ssl_certificate_key ${tls.keyFile};`,
        ]
  return await startNginx(room, { name, server: [`root ${root};`, ...encrypted] })
}

/**
 * Starts nginx with `proxy_cache` in front of an origin. Clients of one cold file wait for one download
 * (`proxy_cache_lock`), as a careful operator would configure it.
 */
export async function startNginxCache(room: Room, name: string, origin: string): Promise<Started> {
  return await startNginx(room, {
    name,
    http: [
      `proxy_cache_path ${room.path(name, 'cache')} levels=1:2 keys_zone=bench:10m max_size=100g inactive=1d use_temp_path=off;`,
      `upstream origin { server ${origin}; keepalive 16; }`,
    ],
    server: [
      'proxy_http_version 1.1;',
      'proxy_set_header Connection "";',
      'proxy_cache bench;',
      'proxy_cache_valid 200 1m;',
      'proxy_cache_lock on;',
      'proxy_cache_lock_timeout 5m;',
      'proxy_cache_lock_age 5m;',
      'proxy_max_temp_file_size 8192m;',
      'location / { proxy_pass http://origin; }',
      'location /v2/library/bench/blobs/ { proxy_pass http://origin; proxy_cache_valid 200 1d; }',
    ],
  })
}

async function startNginx(room: Room, { name, http = [], server }: NginxPlan): Promise<Started> {
  const directory = room.path(name)
  await mkdir(directory)
  const address = `127.0.0.1:${await freePort()}`
  const file = room.path(name, 'nginx.conf')
  await writeFile(file, configurationOf(directory, { http, server: [`listen ${address};`, ...server] }))
  const child = room.start(name, ['nginx', '-e', 'stderr', '-p', directory, '-c', file])
  await child.ready(async () => (await fetch(`http://${address}/`)).status > 0)
  return { child, address }
}

/** Writes one log line per request, like Debian's configuration and the other servers. */
function configurationOf(directory: string, { http, server }: Required<Omit<NginxPlan, 'name'>>): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    kind => `${kind}_temp_path ${directory}/${kind};`,
  )
  const user = process.getuid?.() === 0 ? ['user root;'] : []
  return `${user.join('\n')}
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid ${directory}/pid;
error_log stderr error;
events { worker_connections 8192; }
http {
  access_log ${directory}/access.log;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  ${[...temporary, ...http].join('\n  ')}
  server {
    ${server.join('\n    ')}
  }
}
`
}
