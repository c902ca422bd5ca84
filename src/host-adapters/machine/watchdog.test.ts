import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { silentLog } from "../../lib/log.ts";
import { startWatchdog } from "./watchdog.ts";

let folder: string;
let program: string;
let end: () => void = () => undefined;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-watchdog-"));
  program = path.join(folder, "notify");
  const script = `#!/bin/sh\necho "$NOTIFY_SOCKET $*" >>${folder}/messages\n`;
  await writeFile(program, script, { mode: 0o755 });
});

afterEach(async () => {
  end();
  await rm(folder, { recursive: true, force: true });
});

async function readMessages(): Promise<string[]> {
  const text = await readFile(path.join(folder, "messages"), "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

it("requests a watchdog of five minutes if the unit has none", async () => {
  end = startWatchdog({
    notifySocket: "/run/notify",
    unitTimeoutMs: undefined,
    log: silentLog,
    program,
  });
  await expect.poll(readMessages).toEqual(["/run/notify WATCHDOG_USEC=300000000 WATCHDOG=1"]);
});

it("resets the watchdog of the unit several times in its timeout", async () => {
  end = startWatchdog({ notifySocket: "/run/notify", unitTimeoutMs: 400, log: silentLog, program });
  await expect.poll(async () => (await readMessages()).length).toBeGreaterThan(3);
  expect(new Set(await readMessages())).toEqual(new Set(["/run/notify WATCHDOG=1"]));
});

it("sends nothing without a service manager", async () => {
  end = startWatchdog({ notifySocket: undefined, unitTimeoutMs: 20, log: silentLog, program });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(await readMessages()).toEqual([]);
});
