import { readFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { runCommand } from "../../host-adapters/exec.ts";
import { silentLog } from "../../lib/log.ts";
import { startProgramStarter } from "./program-starter.ts";

let starter: ReturnType<typeof startProgramStarter>;

const sh = (script: string, options: Partial<Parameters<typeof runCommand>[2]> = {}) =>
  runCommand("/bin/sh", ["-c", script], { timeoutMs: 30_000, ...options });
/** The PID of the process that starts programs. */
const findStarter = async () => Number((await sh("echo $PPID")).trim());

beforeEach(async () => {
  starter = startProgramStarter(silentLog, { execArgv: ["--import", "tsx"] });
  await expect.poll(findStarter, { timeout: 30_000 }).not.toBe(process.pid);
});
afterEach(() => starter.stop());

it("runs programs in the starter, and fails as in the process itself", async () => {
  expect(await sh("echo said")).toBe("said\n");
  await expect(sh("echo why >&2; exit 3")).rejects.toMatchObject({
    message: "/bin/sh: why",
    exitCode: 3,
    stderrTail: "why",
  });
  expect(await sh("echo said; exit 3", { exitCodesAccepted: [3] })).toBe("said\n");
  await expect(sh("exec sleep 60", { timeoutMs: 50 })).rejects.toThrow("did not end within 50 ms");
});

it("kills an aborted program", async () => {
  const aborting = new AbortController();
  const sleeping = sh("exec sleep 60", { signal: aborting.signal });
  aborting.abort();
  await expect(sleeping).rejects.toThrow("was aborted");
  await expect(sh("true", { signal: aborting.signal })).rejects.toThrow("was aborted");
});

it("rejects what runs in a starter that ends, and starts later programs itself", async () => {
  const pid = await findStarter();
  const sleeping = sh("exec sleep 5");
  process.kill(pid, "SIGKILL");
  await expect(sleeping).rejects.toThrow("the program starter ended");
  expect(await findStarter()).toBe(process.pid);
});

it("survives requests to a starter that was killed a moment ago", async () => {
  process.kill(await findStarter(), "SIGKILL");
  // The requests go to a closed channel, before this process learns of the end.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  const requests = [1, 2, 3].map(() => sh("true"));
  for (const result of await Promise.allSettled(requests))
    expect(result).toMatchObject({ status: "rejected", reason: { name: "CommandError" } });
  await expect.poll(findStarter).toBe(process.pid);
});

it.each(["deadline", "abort"])(
  "kills a starter that does not answer by the %s, and starts later programs itself",
  async (end) => {
    const pid = await findStarter();
    process.kill(pid, "SIGSTOP");
    const aborting = new AbortController();
    const options = end === "deadline" ? { timeoutMs: 100 } : { signal: aborting.signal };
    const late = sh("true", options);
    const other = sh("true");
    aborting.abort();
    await Promise.all([
      expect(late).rejects.toThrow("the program starter did not answer in time"),
      expect(other).rejects.toThrow("the program starter ended"),
    ]);
    expect(await findStarter()).toBe(process.pid);
    await expect(readFile(`/proc/${pid}/stat`)).rejects.toThrow("ENOENT");
  },
  20_000,
);

it("stops a starter that does not answer", async () => {
  const pid = await findStarter();
  process.kill(pid, "SIGSTOP");
  await starter.stop();
  await expect(readFile(`/proc/${pid}/stat`)).rejects.toThrow("ENOENT");
}, 20_000);

it("ends the starter with its user, and ignores signals to it alone", async () => {
  const pid = await findStarter();
  process.kill(pid, "SIGTERM");
  expect(await findStarter()).toBe(pid);
  await starter.stop();
  await expect(readFile(`/proc/${pid}/stat`)).rejects.toThrow("ENOENT");
});
