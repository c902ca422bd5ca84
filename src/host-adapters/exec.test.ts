import { expect, it } from "vitest";
import { runCommand, runForLines } from "./exec.ts";

const sh = (script: string, options: Parameters<typeof runCommand>[2]) =>
  runCommand("/bin/sh", ["-c", script], options);

it("returns the output, or the error output of a failed program", async () => {
  expect(await sh("echo said", { timeoutMs: 5_000 })).toBe("said\n");
  await expect(sh("echo why >&2; exit 3", { timeoutMs: 5_000 })).rejects.toMatchObject({
    exitCode: 3,
    stderrTail: "why",
  });
  await expect(runCommand("/nowhere", [], { timeoutMs: 5_000 })).rejects.toThrow("ENOENT");
});

it("passes the input, and reports why a program ends before it has read all", async () => {
  const input = "line\n".repeat(200_000);
  expect(await sh("wc -l", { timeoutMs: 5_000, input })).toBe("200000\n");
  await expect(
    sh("read first; echo no >&2; exit 1", { timeoutMs: 5_000, input }),
  ).rejects.toMatchObject({ stderrTail: "no" });
});

it("kills the program at the deadline and when aborted", async () => {
  await expect(sh("exec sleep 60", { timeoutMs: 50 })).rejects.toThrow("did not end within 50 ms");
  const signal = AbortSignal.timeout(50);
  await expect(sh("exec sleep 60", { timeoutMs: 60_000, signal })).rejects.toThrow("was aborted");
});

it("settles soon after the deadline if the program survives the signal", async () => {
  const startedAtMs = performance.now();
  const stubborn = sh("trap '' TERM; i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done", {
    timeoutMs: 100,
    killSignal: "SIGTERM",
  });
  await expect(stubborn).rejects.toThrow("did not end within 100 ms");
  expect(performance.now() - startedAtMs).toBeLessThan(30_000);
});

const lines = async (script: string, options: Partial<Parameters<typeof runForLines>[2]> = {}) => {
  const seen = { count: 0, last: "" };
  const onLine = (line: string): void => {
    seen.count += 1;
    seen.last = line;
  };
  const all = { timeoutMs: 20_000, lineCharsMax: 100, onLine, ...options };
  await runForLines("/bin/sh", ["-c", script], all);
  return seen;
};

it("passes on each line of an output that has more than 16 MiB", async () => {
  expect(await lines("seq 1000000 3200000; printf end")).toEqual({ count: 2_200_002, last: "end" });
});

it("ends a program with a long line, at the deadline, when aborted, and after an error", async () => {
  const onLine = (): never => {
    throw new Error("unreadable");
  };
  for (const [script, options, text] of [
    ["yes | tr -d '\\n'", {}, "too long"],
    ["exec sleep 60", { timeoutMs: 50 }, "did not end within 50 ms"],
    ["exec sleep 60", { signal: AbortSignal.timeout(50) }, "was aborted"],
    ["yes", { onLine }, "unreadable"],
    ["echo why >&2; exit 3", {}, "why"],
  ] as const)
    await expect(lines(script, options)).rejects.toThrow(text);
});
