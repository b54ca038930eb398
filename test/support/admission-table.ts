/** Rules, and what they say of images: one table for every implementation of them. */
export interface AdmissionCase {
  readonly title: string
  /** The section `admission` of an upstream file. */
  readonly section: string
  /** Images by verdict. */
  readonly allowed: readonly string[]
  readonly denied: readonly string[]
  /** Namespace of the Pod; `default` if left out. */
  readonly namespace?: string
}

const HEX = 'a'.repeat(64)
const OTHER_HEX = 'b'.repeat(64)

export const ADMISSION_TABLE: readonly AdmissionCase[] = [
  {
    title: 'short names are those of Docker Hub',
    section: 'default: deny\nallow: [nginx, docker.io/acme/]',
    allowed: [
      'nginx',
      'nginx:1.25',
      `nginx@sha256:${HEX}`,
      `nginx:1.25@sha256:${HEX}`,
      'library/nginx',
      'docker.io/nginx',
      'docker.io/library/nginx:latest',
      'index.docker.io/nginx',
      'registry-1.docker.io/library/nginx',
      'DOCKER.io/library/nginx',
      'docker.io:443/library/nginx',
      'acme/app',
      'docker.io/acme/team/app:v1',
      'nginx:5000',
    ],
    denied: [
      'nginx2',
      'redis',
      'nginx/nginx-ingress',
      'ghcr.io/library/nginx',
      'localhost/nginx',
      'docker.io:5000/library/nginx',
      'acme',
      'acme2/app',
      'quay.io/acme/app',
    ],
  },
  {
    title: 'a registry is not the beginning of another',
    section: 'default: deny\nallow: [docker.io, registry.example.com:5000]',
    allowed: [
      'alpine',
      'docker.io/acme/app',
      'registry.example.com:5000/app',
      'registry.example.com:5000/a/b/c:1',
    ],
    denied: [
      'docker.io.evil.com/library/alpine',
      'docker.io.evil.com/alpine',
      'docker.iox/alpine',
      'xdocker.io/alpine',
      'evil.com/docker.io/library/alpine',
      'registry.example.com/app',
      'registry.example.com:50001/app',
      'registry.example.com:5000.evil.com/app',
      'registryxexample.com:5000/app',
      'localhost/docker.io/alpine',
    ],
  },
  {
    title: 'the longest match decides, and a denial wins a tie',
    section: `default: deny
allow: [ghcr.io, ghcr.io/acme/secret/tool, quay.io/same]
deny: [ghcr.io/acme/secret/, quay.io/same, 'ghcr.io/acme/app:v1*']`,
    allowed: [
      'ghcr.io/acme/app',
      'ghcr.io/acme/app:v2',
      'ghcr.io/acme/secret/tool',
      'ghcr.io/acme/secret/tool:v1',
      'ghcr.io/acme/secrets',
    ],
    denied: [
      'ghcr.io/acme/secret/other',
      'ghcr.io/acme/secret',
      'quay.io/same',
      'quay.io/same/below',
      'ghcr.io/acme/app:v1',
      'ghcr.io/acme/app:v1.2',
      `ghcr.io/acme/app:v1@sha256:${HEX}`,
    ],
  },
  {
    title: 'a default of allow denies only what is named',
    section: 'default: Allow\ndeny: [docker.io, toto.land]',
    allowed: ['quay.io/myimage:test', 'docker.io.evil.com/x', 'toto.landing/x', 'localhost:5000/ubuntu'],
    denied: ['ubuntu', 'toto.land/myimage:test', 'quay.io/myimage@invalid', 'index.docker.io/x/y'],
  },
  {
    title: 'tags, digests and both',
    section: `default: deny
allow: ['ghcr.io/acme/app:v*', 'ghcr.io/acme/pinned@sha256:${HEX}', 'ghcr.io/acme/any@sha256:*', 'ghcr.io/acme/late:latest', 'ghcr.io/acme/last:la*']
deny: ['ghcr.io/acme/app:v0*', 'ghcr.io/acme/any@sha256:bb*']`,
    allowed: [
      'ghcr.io/acme/app:v1',
      `ghcr.io/acme/pinned@sha256:${HEX}`,
      `ghcr.io/acme/pinned:v7@sha256:${HEX}`,
      `ghcr.io/acme/any@sha256:${HEX}`,
      'ghcr.io/acme/late',
      'ghcr.io/acme/late:latest',
      'ghcr.io/acme/last',
    ],
    denied: [
      'ghcr.io/acme/app',
      'ghcr.io/acme/app:V1',
      'ghcr.io/acme/app:v0.9',
      // The runtime pulls the digest, whatever the tag says.
      `ghcr.io/acme/app:v1@sha256:${HEX}`,
      `ghcr.io/acme/app@sha256:${HEX}`,
      'ghcr.io/acme/pinned:v7',
      `ghcr.io/acme/pinned@sha256:${OTHER_HEX}`,
      `ghcr.io/acme/any@sha256:${OTHER_HEX}`,
      'ghcr.io/acme/any:1',
      'ghcr.io/acme/late:later',
      `ghcr.io/acme/late@sha256:${HEX}`,
      `ghcr.io/acme/late:latest@sha256:${HEX}`,
    ],
  },
  {
    title: 'what is not the name of an image is denied',
    section: 'default: allow',
    allowed: [
      'a',
      'a/b',
      `a@sha512:${'0'.repeat(128)}`,
      '[::1]:5000/app',
      'localhost/app',
      'a_b/c__d/e-f',
      'my_host.lan/app',
    ],
    denied: [
      ' nginx',
      'nginx ',
      'hello human',
      'docker.io/voyager@jasper-byrne',
      'UPPER/case',
      'Nginx',
      'nginx:',
      'nginx:-1',
      'nginx@',
      'nginx@sha256:abc',
      `nginx@sha256:${HEX}@sha256:${HEX}`,
      `nginx@sha256:${HEX.toUpperCase()}`,
      'docker.io./library/nginx',
      '.docker.io/nginx',
      'docker..io/nginx',
      'docker.io//nginx',
      '/nginx',
      'nginx/',
      'https://docker.io/nginx',
      'nginx:1:2',
      'a/../b',
      'ho$t.io/app',
      'nginx\n',
      'docker.io/nginx\ndocker.io/nginx',
      'ｎginx',
      'a'.repeat(256),
      `ghcr.io/${'a'.repeat(256)}`,
      `nginx:${'1'.repeat(129)}`,
      'host.io:123456/app',
      'host.io:/app',
    ],
  },
  {
    title: 'a pattern keeps to its components',
    section:
      "default: deny\nallow: ['*.corp.example/**', 'ghcr.io/*/base', 'quay.io/team-*/**', 'docker.io/library/*']",
    allowed: [
      'a.corp.example/x',
      'a.b.corp.example/x/y:1',
      'ghcr.io/acme/base',
      'quay.io/team-a/app',
      'quay.io/team-a',
      'nginx',
    ],
    denied: [
      'corp.example/x',
      'a.corp.example:5000/x',
      'a.corp.example.evil.com/x',
      'ghcr.io/acme/sub/base',
      'ghcr.io/base',
      'quay.io/team/app',
      'acme/nginx',
    ],
  },
  {
    title: 'rules for a namespace go before the others',
    namespace: 'team-a',
    section: `default: deny
allow:
  - nginx
  - {names: ghcr.io/acme/, namespaces: [team-*, ops]}
  - {names: quay.io, namespaces: prod}
deny:
  - ghcr.io/acme/app
  - {names: nginx, namespaces: team-a, reason: use the hardened one}`,
    allowed: ['ghcr.io/acme/app', 'ghcr.io/acme/other'],
    denied: ['nginx', 'quay.io/app'],
  },
  {
    title: 'rules for other namespaces are about nothing here',
    namespace: 'default',
    section: `default: deny
allow:
  - nginx
  - {names: ghcr.io/acme/, namespaces: [team-*, ops]}
deny:
  - {names: nginx, namespaces: team-a}`,
    allowed: ['nginx'],
    denied: ['ghcr.io/acme/other'],
  },
  {
    title: 'an image of a mirror is judged by what it stands for',
    section: `default: deny
allow: [nginx, 'ghcr.io/acme/', 'reg.lan:5555/']
deny: ['ghcr.io/acme/bad:*']
mirrors: ['mirror.example.com:8443', small]`,
    allowed: [
      'mirror.example.com:8443/docker.io/library/nginx',
      'mirror.example.com:8443/docker.io/nginx:1',
      'mirror.example.com:8443/library/nginx',
      'mirror.example.com:8443/nginx',
      'mirror.example.com:8443/ghcr.io/acme/app',
      'mirror.example.com:8443/reg.lan_5555/app',
      'nginx',
      'ghcr.io/acme/app',
    ],
    denied: [
      'mirror.example.com:8443/ghcr.io/acme/bad:1',
      'mirror.example.com:8443/ghcr.io/other/app',
      'mirror.example.com:8443/redis',
      'mirror.example.com/docker.io/library/nginx',
      'mirror.example.com:8443/mirror.example.com_8443/nginx',
      'mirror.example.com:8443/acme/app',
      'mirror.example.com:8443/docker.io.evil.com/nginx',
    ],
  },
  {
    title: 'the id of an image on a node is no name, whatever it looks like',
    section: 'default: deny\nallow: [docker.io, docker.io/library/]',
    allowed: ['sha256', 'sha256/app:v1', 'docker.io/library/sha256:v1'],
    denied: [`sha256:${'a'.repeat(64)}`, 'sha256:abcd', `sha512:${'a'.repeat(128)}`],
  },
  {
    title: 'a port with a leading zero is not another registry',
    section: "default: allow\ndeny: [ghcr.io/acme, 'reg.lan:5000/']",
    allowed: ['ghcr.io:8443/acme/app', 'reg.lan:5001/app'],
    denied: [
      'ghcr.io:443/acme/app',
      'ghcr.io:0443/acme/app',
      'reg.lan:05000/app',
      'ghcr.io:0/acme/app',
      '[::1]:05000/app',
    ],
  },
  {
    title: "Trow's lists are taken over as they are",
    section: `default: Deny
allow: [docker.io, 'localhost:8000', trow.test, k8s.gcr.io/]
deny: ['localhost:8000/secret/']`,
    allowed: [
      'trow.test/am/test:tag',
      'k8s.gcr.io/metrics-server-amd64:v0.2.1',
      'docker.io/amouat/myimage:test',
      'localhost:8000/hello/world',
    ],
    denied: [
      'localhost:8000/secret/shiny-box',
      'virus.land.cc/not/suspect',
      'hello human',
      'docker.io/voyager@jasper-byrne',
    ],
  },
]
