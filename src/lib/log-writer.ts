import { write, writeSync } from "node:fs";

/**
 * The log writes lines together once they have this length. Otherwise each request would cost a
 * system call and the wake-up of a thread.
 */
const BUFFERED_CHARS = 12_288;
/** The log writes shorter lines after this time. SIGKILL loses at most the lines of this time. */
const BUFFERED_MS = 50;
/** The largest total length of queued lines. Further ones are lost. */
const QUEUED_CHARS_MAX = 16 * 2 ** 20;
/** Pause between two attempts to write to a slow reader. */
const RETRY_MS = 20;
/** At the exit of the process, the writer waits this long until the reader reads any byte. */
const EXIT_MS = 1_000;

/**
 * Writes the lines of a log to a descriptor, and the rest when the process exits. Lines are lost if
 * the reader has exited, the disk is full, or too many lines are queued. A log neither ends its
 * process nor prevents its exit. (sonic-boom, the writer of pino, prevents the exit after EPIPE.)
 *
 * @param fileDescriptor 1 for standard output, 2 for standard error
 */
export function openLogWriter(fileDescriptor: 1 | 2): { write(line: string): void } {
  unblock(fileDescriptor);
  let queued = "";
  /** The lines before the queued ones: a write has begun, and not all of it has ended. */
  let inFlight = Buffer.alloc(0);
  let isWriting = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (isWriting) return;
    if (inFlight.length === 0) {
      inFlight = Buffer.from(queued);
      queued = "";
    }
    if (inFlight.length === 0) return;
    isWriting = true;
    write(fileDescriptor, inFlight, (error, writtenBytes) => {
      isWriting = false;
      const wouldBlock = error !== null && isBusy(error);
      if (error === null) inFlight = inFlight.subarray(writtenBytes);
      else if (!wouldBlock) inFlight = Buffer.alloc(0);
      if (inFlight.length === 0 && queued === "") return;
      if (wouldBlock || (inFlight.length === 0 && queued.length < BUFFERED_CHARS))
        flushLater(RETRY_MS);
      else flush();
    });
  };
  const flushLater = (afterMs: number): void => {
    if (timer === undefined) timer = setTimeout(flush, afterMs).unref();
  };

  process.on("exit", () => {
    // A thread still writes the lines in flight, if any: the process ends after it.
    const rest = Buffer.from(queued);
    writeNow(fileDescriptor, isWriting ? rest : Buffer.concat([inFlight, rest]));
  });
  return {
    write(line) {
      if (queued.length + line.length > QUEUED_CHARS_MAX) return;
      queued += line;
      if (queued.length >= BUFFERED_CHARS && inFlight.length === 0) flush();
      else if (!isWriting) flushLater(BUFFERED_MS);
    },
  };
}

/**
 * Makes a pipe or socket non-blocking, as a side effect of its stream. In a blocking one that
 * nothing reads, a write would wait for the reader, and the exit of the process for that write.
 */
function unblock(fileDescriptor: 1 | 2): void {
  const stream = fileDescriptor === 1 ? process.stdout : process.stderr;
  stream.on("error", () => undefined); // such as the end of the reader
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
