import { write, writeSync } from "node:fs";

/**
 * The log writes lines together once they have this length. Otherwise each request would cost a
 * system call and the wake-up of a thread.
 */
const BUFFERED_CHARS = 12_288;
/** The log writes shorter lines after this time. SIGKILL loses at most the lines of this time. */
const BUFFERED_MS = 50;
/** Lines that wait for a slow reader have at most this length. Further ones are lost. */
const WAITING_CHARS_MAX = 16 * 2 ** 20;
/** A slow reader gets as much time between two attempts. */
const RETRY_MS = 20;
/** When the process exits, a slow reader gets as much time to read any byte. */
const EXIT_MS = 1_000;

/**
 * Writes the lines of a log to a descriptor, and the rest when the process exits. Lines are lost if
 * the reader has ended, the disk is full, or too many lines wait. A log never ends its process, nor
 * prevents the end: sonic-boom, the writer of pino, tries again without end at an exit after EPIPE.
 */
export function openLogWriter(fileDescriptor: number): { write(line: string): void } {
  let waiting = "";
  /** The lines before those that wait: a write has begun, and not all of it has ended. */
  let begun = Buffer.alloc(0);
  let isWriting = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (isWriting) return;
    if (begun.length === 0) {
      begun = Buffer.from(waiting);
      waiting = "";
    }
    if (begun.length === 0) return;
    isWriting = true;
    write(fileDescriptor, begun, (error, writtenBytes) => {
      isWriting = false;
      const isLate = error !== null && isBusy(error);
      if (error === null) begun = begun.subarray(writtenBytes);
      else if (!isLate) begun = Buffer.alloc(0);
      if (begun.length === 0 && waiting === "") return;
      if (isLate || (begun.length === 0 && waiting.length < BUFFERED_CHARS)) flushLater(RETRY_MS);
      else flush();
    });
  };
  const flushLater = (afterMs: number): void => {
    if (timer === undefined) timer = setTimeout(flush, afterMs).unref();
  };

  process.on("exit", () => {
    // A thread still writes the begun lines, if any: the process ends after it.
    const rest = Buffer.from(waiting);
    writeNow(fileDescriptor, isWriting ? rest : Buffer.concat([begun, rest]));
  });
  return {
    write(line) {
      if (waiting.length + line.length > WAITING_CHARS_MAX) return;
      waiting += line;
      if (waiting.length >= BUFFERED_CHARS && begun.length === 0) flush();
      else if (!isWriting) flushLater(BUFFERED_MS);
    },
  };
}

function writeNow(fileDescriptor: number, bytes: Buffer): void {
  let deadlineMs = performance.now() + EXIT_MS;
  const never = new Int32Array(new SharedArrayBuffer(4));
  let rest = bytes;
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fileDescriptor, rest));
      deadlineMs = performance.now() + EXIT_MS;
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadlineMs) return;
      Atomics.wait(never, 0, 0, RETRY_MS);
    }
  }
}

/** Whether the reader has not yet read the earlier lines. */
function isBusy(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "EAGAIN";
}
