import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { type FilesystemStore, openFilesystemStore } from '../../src/storage/filesystem/store.ts'

/** Events that a test can look at afterwards. */
export interface SeenEvents {
  readonly failures: { readonly operation: string; readonly error: unknown }[]
  readonly sweeps: number[]
  storageFailed(operation: string, error: unknown): void
  swept(files: number): void
}

/** Remembers what a store reports. */
export function seenEvents(): SeenEvents {
  const failures: SeenEvents['failures'] = []
  const sweeps: number[] = []
  return {
    failures,
    sweeps,
    storageFailed: (operation, error) => void failures.push({ operation, error }),
    swept: files => void sweeps.push(files),
  }
}

/** Makes a directory that is removed when the test has ended. */
export async function makeRoom(t: TestContext): Promise<string> {
  const room = await mkdtemp(join(tmpdir(), 'entrepot-storage-'))
  t.after(async () => rm(room, { recursive: true, force: true }))
  return room
}

/**
 * Opens a store below a root, and closes it when the test has ended. For it no time passes: its sweep takes
 * as long as it needs.
 */
export async function openStore(
  t: TestContext,
  root: string,
  events: SeenEvents = seenEvents(),
): Promise<FilesystemStore> {
  const store = await openFilesystemStore({ root, events, clock: { monotonicMs: () => 0 } })
  t.after(async () => store[Symbol.asyncDispose]())
  return store
}

/** All files and other leaves below a directory, by their paths within it, sorted. */
export async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries
    .filter(entry => !entry.isDirectory())
    .map(entry => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .sort()
}

/** Files below a root but for those that say who uses it. */
export async function contentsOf(root: string): Promise<string[]> {
  return (await filesBelow(root)).filter(path => !/^spool\/[^/]+\/owner$/.test(path))
}

/** True if a program is there and ends well. */
export async function runs(command: string, parameters: readonly string[]): Promise<boolean> {
  return promisify(execFile)(command, parameters).then(
    () => true,
    () => false,
  )
}
