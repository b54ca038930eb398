import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { openLog } from '../../src/observe/log.ts'
import { startMirror, type TestMirror, upstreamEntry } from '../support/mirror.ts'
import { RawClient } from '../support/raw-client.ts'
import { startUpstream } from '../support/upstream.ts'

const METHODS = ['GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'OPTIONS', 'PROPFIND', 'M-SEARCH', 'TRACE']
const ROUNDS = 120
const AT_ONCE = 8

/** The series that this program writes: a name with its labels. */
async function seriesOf(mirror: TestMirror): Promise<readonly string[]> {
  const text = (await mirror.admin('GET', '/metrics')).body.toString()
  return text
    .split('\n')
    .filter(line => line.startsWith('entrepot_'))
    .map(line => line.slice(0, line.lastIndexOf(' ')))
}

/** Nine requests of which every part that a client can choose is new. */
function requestsOf(round: string): string {
  const targets = [
    `/v2/team/r${round}/manifests/t${round}?ns=n${round}.example.net`,
    `/v2/n${round}.example.org/team/app/tags/list`,
    `/n${round}.example.com/v2/team/app/manifests/latest`,
    `/v2/team/r${round}/manifests/t${round}`,
    `/v2/team/r${round}/blobs/sha256:${Buffer.from(round).toString('hex').padEnd(64, '0')}`,
    `/v2/team/r${round}/tags/list?n=1&last=${round}`,
    `/v2/team/r${round}/referrers/sha256:${Buffer.from(round).toString('hex').padEnd(64, '1')}?artifactType=${round}`,
    `/nothing/${round}`,
    `/v2/other.example.test/team/r${round}/manifests/t${round}`,
  ]
  return targets
    .map((target, index) => {
      const method =
        index % 3 === 0 ? (METHODS[(Number.parseInt(round, 36) + index) % METHODS.length] ?? 'GET') : 'GET'
      const close = index === targets.length - 1 ? 'Connection: close\r\n' : ''
      return `${method} ${target} HTTP/1.1\r\nHost: h${round}\r\nUser-Agent: agent/${round}-${index}\r\n${close}\r\n`
    })
    .join('')
}

async function drive(mirror: TestMirror, rounds: number, seed: string): Promise<number> {
  let answers = 0
  let next = 0
  const work = async (): Promise<void> => {
    while (next < rounds) {
      const round = `${seed}${((next += 1)).toString(36)}`
      // What closes the connection early leaves the rest of a round unasked, so each goes alone.
      for (const request of requestsOf(round).split(/(?<=\r\n\r\n)/)) {
        using client = await RawClient.connect(mirror.daemon.addresses.client)
        client.send(request.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
        await client.ended()
        answers += client.statuses.length
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  return answers
}

test('K11 hundreds of namespaces, repositories, tags, user agents and methods make no series beyond the first few', async () => {
  await using upstream = await startUpstream()
  const silent = openLog('silent')
  await using mirror = await startMirror({
    upstream: upstream.host,
    others: [upstreamEntry('other.example.test', upstream.host)],
    overrides: {
      log: silent,
      upstream: { resolve: async () => ['10.0.0.1'], strangerLimits: { newNamesMax: 1_000_000 } },
    },
  })
  // Every kind of request has its series after a few rounds.
  await drive(mirror, 2 * METHODS.length, 'a')
  const before = await seriesOf(mirror)
  const answers = await drive(mirror, ROUNDS, 'b')
  const after = await seriesOf(mirror)
  assert.equal(answers, ROUNDS * 9)
  // What the cache takes up is known when the index has opened: one series without labels each.
  assert.deepEqual(
    after.filter(series => series.includes('{') && !before.includes(series)),
    [],
  )
  const namespaces = new Set(after.map(series => /namespace="([^"]*)"/.exec(series)?.[1]))
  assert.deepEqual([...namespaces].filter(name => name !== undefined).sort(), [
    'docker.io',
    'none',
    'other',
    'other.example.test',
  ])
  const { clients } = JSON.parse((await mirror.admin('GET', '/_admin/v1/clients')).body.toString()) as {
    clients: readonly unknown[]
  }
  assert.equal(clients.length, 500)
})

/** Maps and sets that live as long as the daemon, and what keeps each from growing with what clients send. */
const BOUNDED_BY: Readonly<Record<string, string>> = {
  'access/passwords.ts #checks': 'WAITING_MAX',
  'access/robots.ts #robots': 'tokens that the operator has created',
  'admin/page/live-feed.ts #listeners': 'LISTENERS_MAX, by what a viewer sees',
  'admin/page/live-feed.ts #sent': 'kinds of viewers',
  'admin/page/page-sessions.ts #sessions': 'SESSIONS_MAX',
  'admin/page/warm-jobs.ts #jobs': 'REMEMBERED_MAX',
  'admin/page/warm-jobs.ts #running': 'RUNNING_MAX',
  'admin/remove.ts #gone': 'the images of one removal',
  'admin/remove.ts #unlinked': 'the images of one removal',
  'admin/remove.ts #removed': 'the images of one removal',
  'admin/warm-schedule.ts #progress': 'rules of the section warm',
  'content/decisions.ts #read': 'PINS_MAX and ROBOTS_MAX',
  'content/index/feed.ts #pulls': 'FLUSH_CHANGES',
  'http/threads/accounts.ts #pulls': 'PULLS_MAX',
  'http/tls/handshakes.ts #running': 'connections, which are limited',
  'observe/notifications/announcements.ts #running':
    'failed changes that are undecided, of requests, which are limited',
  'observe/notifications/notifications.ts #announced':
    'changes under way, which are requests and jobs, which are limited',
  'observe/series/tallied-histogram.ts #tallies': 'products of closed sets of labels',
  'observe/notifications/courier.ts #waiting': 'subjects of the events in the outbox, which is bounded',
  'observe/notifications/notifications.ts #unwritten': 'writes that run, of events between two of them',
  'observe/notifications/outbox-client.ts #waiting': 'calls of the courier and of operators',
  'http/server.ts #sockets': 'connections, which are limited',
  'http/server.ts #perAddress': 'connections, which are limited',
  'http/server.ts #surplus': 'surplusMax',
  'mirror/fill/fills.ts #orphans': 'ORPHANS_MAX',
  'mirror/fill/fills.ts #all': 'fills, which are limited',
  'http/threads/accounts.ts #used': 'answers between two accounts, which are half a second apart',
  'http/threads/accounts.ts #shown': 'answers between two accounts, which are half a second apart',
  'http/threads/channel.ts #waiting': 'requests, which are limited',
  'http/threads/thread-host.ts #held': 'responses that are being sent, which are connections',
  'http/threads/thread-host.ts #streams': 'responses that are being sent, which are connections',
  'content/index/catalogue-client.ts #waiting': 'flushes and questions of operators',
  'content/index/catalogue-extents.ts #changed': 'the changes of one flush',
  'content/index/catalogue.ts #bytesByOwner': 'namespaces of which something is stored',
  'content/index/catalogue.ts #places': 'repositories of which something is stored',
  'content/index/catalogue.ts #configured': 'configured namespaces',
  'content/index/feed.ts #uses': 'FLUSH_CHANGES',
  'observe/events.ts #damagedRecords': 'kinds of records',
  'content/index/feed.ts #pendingByNamespace': 'FLUSH_CHANGES',
  'content/index/feed.ts #assumedByNamespace': 'the namespaces of the index',
  'lib/flights.ts #jobs': 'jobsMax',
  'content/links.ts #writers': 'WRITES_AT_ONCE',
  'content/pins.ts #digests': 'what the operator has pinned',
  'mirror/tag-resolver.ts #late': 'RESOLUTIONS_MAX',
  'mirror/fill/spool.ts #waiting': 'readers of one fill, which are connections',
  'observe/health.ts #lost': 'LOST_MAX',
  'observe/metrics-sink.ts #known': 'configured namespaces',
  'observe/metrics-sink.ts #requestSeries': 'products of closed sets of labels',
  'observe/events.ts #unwritable': 'operations of a store',
  'observe/recent-clients.ts #seen': 'CLIENTS_MAX',
  'upstream/auth/auth.ts #flights': 'requests, which are limited',
  'upstream/registries.ts #leaving': 'upstreams that have a request to end',
  'upstream/transport.ts #closing': 'agents that have a request to end',
  'upstream/manners/misstated.ts #untilMs': 'REPOSITORIES_MAX',
  'upstream/dial/lookups.ts #running': 'lookupsMax',
  'upstream/dial/lookups.ts #queues': 'look-ups that run or wait, which requests are for',
  'upstream/dial/strangers.ts #connections': 'connectionsMax',
  'upstream/manners/gate.ts #waiting': 'requests, which are limited',
}

const FIELD = /^ {2}(?:readonly )?(#\w+)[^=\n]*= new (?:Map|Set)\b/gm
/**
 * Rooms whose maps are named here; those of other rooms are of what is stored, of files that are watched, or
 * of a command's own run.
 */
const ROOMS = ['access', 'admin', 'content', 'http', 'mirror', 'observe', 'upstream']

/** Paths of all files below a room, none where the room does not exist yet. */
async function filesOf(room: URL): Promise<readonly string[]> {
  const entries = await readdir(room, { recursive: true }).catch(() => [])
  return entries.filter(path => path.endsWith('.ts'))
}

test('every map and set in the path of a request is an LRU cache, or is named here with what bounds it', async () => {
  const source = new URL('../../src/', import.meta.url)
  const found: string[] = []
  for (const room of ROOMS) {
    for (const file of await filesOf(new URL(`${room}/`, source))) {
      const text = await readFile(new URL(`${room}/${file}`, source), 'utf8')
      for (const [, field] of text.matchAll(FIELD)) found.push(`${room}/${file} ${field}`)
      for (const cache of text.matchAll(/new LRUCache(?:<[^(]*>)?\(\{([^}]*)/g))
        assert.match(cache[1] ?? '', /\bmax(?:Size)?:/, `an LRU cache without a bound in ${file}`)
    }
  }
  assert.ok(found.length > 5, 'the reading of fields sees them')
  assert.deepEqual(
    found.filter(field => BOUNDED_BY[field] === undefined),
    [],
  )
})
