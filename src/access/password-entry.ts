import { parentPort } from 'node:worker_threads'
import { checkPassword } from './password-check.ts'
import type { PasswordQuestion } from './passwords.ts'

/** The thread that checks passwords, which would stall the event loop of a serving one. */
parentPort?.on('message', ({ id, password, hash }: PasswordQuestion) => {
  let isRight = false
  try {
    isRight = checkPassword(password, hash)
  } catch {
    // A hash that cannot be read fits no password.
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is no window
  parentPort?.postMessage({ id, isRight }, [])
})
