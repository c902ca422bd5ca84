import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { lockFolder } from "./lock-folder.ts";

let folder: string;
beforeEach(async () => {
  folder = path.join(await mkdtemp(path.join(tmpdir(), "berth-lock-")), "deep");
});
afterEach(() => rm(path.dirname(folder), { recursive: true }));

it("locks a folder once, until its release", async () => {
  const release = await lockFolder(folder, "agent.lock");
  await expect(lockFolder(folder, "agent.lock")).rejects.toThrow("in use by another process");
  await release();
  await (
    await lockFolder(folder, "agent.lock")
  )();
});

it("gives the lock to one of many concurrent callers", async () => {
  const results = await Promise.allSettled(
    Array.from({ length: 8 }, () => lockFolder(folder, "agent.lock")),
  );
  const won = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  expect(won).toHaveLength(1);
  await Promise.all(won.map((release) => release()));
});
