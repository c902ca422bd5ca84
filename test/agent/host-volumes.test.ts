import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import { loadAgentSettings } from "../../src/config/host-agent.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { openHostVolumes } from "../../src/main/compose/host-volumes.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
let base: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "berth-host-volumes-"));
});
afterEach(async () => {
  for (const name of await readdir(join(base, "real", "volumes")).catch(() => []))
    await run("umount", [join(base, "real", "volumes", name)]).catch(() => undefined);
  await run("chattr", ["-R", "-i", base]).catch(() => undefined);
  await rm(base, { recursive: true, force: true });
});

it("volumes work in a data directory behind a symbolic link", async () => {
  await mkdir(join(base, "real"));
  await symlink(join(base, "real"), join(base, "link"));
  const settings = loadAgentSettings({ BERTH_AGENT_DATA_DIR: join(base, "link") });
  const hostId = newId("host");
  const volumes = (await openHostVolumes(settings, { hostId, log: silentLog }))?.port;
  if (!volumes) throw new Error("the host has volumes");
  const setId = newId("set");
  const of = { tenant: "default", service: "db", generation: 1 };
  const spec = { setId, ...of, sizeBytes: 32 * 2 ** 20 };
  await volumes.ensure(spec, signal);
  await volumes.ensure(spec, signal);
  expect(await volumes.list(signal)).toMatchObject([{ usedBytes: expect.any(Number) }]);
  await volumes.trash(setId, signal);
  // An empty mount point does not stop an operator who deletes the folder.
  await rm(join(base, "real", "volumes"), { recursive: true });
  const { stdout } = await run("losetup", ["--list", "--noheadings", "--output", "BACK-FILE"]);
  expect(stdout).not.toContain(base);
});
