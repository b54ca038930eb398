const CAPACITY_BYTES = 1024 * 1024

/**
 * The last bytes of a growing content, for readers that keep up with it: one buffer, from the first such
 * reader to the end of the download. Most clients are sent the file by the kernel and need none. Bytes are
 * copied in and out, so that the upstream's buffers can be freed at once and a reader's piece never changes.
 */
export class Recent {
  #buffer: Buffer | undefined
  #isReleased = false
  #startOffset = 0
  #endOffset = 0

  /** Keeps what is appended from now on. */
  keep(): void {
    if (!this.#isReleased) this.#buffer ??= Buffer.allocUnsafeSlow(CAPACITY_BYTES)
  }

  /** Adds bytes that were appended at an offset. A gap discards everything before it. */
  append(offset: number, bytes: Uint8Array): void {
    if (this.#buffer === undefined) return
    if (offset !== this.#endOffset) this.#startOffset = offset
    const kept = bytes.subarray(Math.max(0, bytes.byteLength - CAPACITY_BYTES))
    const end = offset + bytes.byteLength
    const position = (end - kept.byteLength) % CAPACITY_BYTES
    const first = kept.subarray(0, CAPACITY_BYTES - position)
    this.#buffer.set(first, position)
    this.#buffer.set(kept.subarray(first.byteLength), 0)
    this.#endOffset = end
    this.#startOffset = Math.max(this.#startOffset, end - CAPACITY_BYTES)
  }

  /**
   * Copies bytes from an offset into the target, as many as fit and are present. Returns the count; 0 if the
   * first byte is not present.
   */
  copy(target: Uint8Array, offset: number): number {
    if (this.#buffer === undefined || offset < this.#startOffset || offset >= this.#endOffset) return 0
    const count = Math.min(target.byteLength, this.#endOffset - offset)
    const position = offset % CAPACITY_BYTES
    const first = this.#buffer.subarray(position, Math.min(CAPACITY_BYTES, position + count))
    target.set(first)
    target.set(this.#buffer.subarray(0, count - first.byteLength), first.byteLength)
    return count
  }

  /** Frees the memory; {@link copy} returns 0 from then on. */
  release(): void {
    this.#isReleased = true
    this.#buffer = undefined
  }
}
