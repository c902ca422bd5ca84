import type { ReadStream, WriteStream } from "node:tty";
import type { SessionConsole } from "../../cli/cli-context.ts";

/** SessionConsole on the streams of this process. */
export function openSessionConsole(
  stdin: ReadStream,
  stdout: WriteStream,
  stderr: WriteStream,
): SessionConsole {
  return {
    isInputTerminal: stdin.isTTY,
    readInput: () => stdin,
    write: (stream, bytes) =>
      new Promise((resolve) => {
        // A closed pipe ends the process: see main/cli.ts.
        (stream === "stdout" ? stdout : stderr).write(bytes, () => resolve());
      }),
    setRawMode: (isRaw) => void stdin.setRawMode(isRaw),
    size: () => (stdout.isTTY ? { cols: stdout.columns, rows: stdout.rows } : undefined),
    onResize: (callback) => {
      stdout.on("resize", callback);
      return () => void stdout.off("resize", callback);
    },
    close: () => void stdin.destroy(),
  };
}
