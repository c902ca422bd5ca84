import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import Docker from "dockerode";
import { afterEach, beforeEach, expect, it } from "vitest";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import { type AgentSettings, loadAgentSettings } from "../../src/config/host-agent.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { openHostVolumes } from "../../src/main/compose/host-volumes.ts";
import { composePreviousHosts } from "../../src/main/compose/previous-hosts.ts";
import { localSet } from "../support/agent/local-set.ts";
import { baseImage } from "../support/docker/docker.ts";
import { startDockerProxy } from "../support/docker/docker-proxy.ts";
import { findHostCgroups, removeHost } from "../support/docker/docker-host.ts";

const run = promisify(execFile);
const docker = new Docker();
const log = silentLog;
const { signal } = new AbortController();

let base: string;
let settings: AgentSettings;
let deleted: string;
let own: string;
let other: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "berth-previous-hosts-"));
  settings = loadAgentSettings({ BERTH_AGENT_DATA_DIR: base });
  [deleted, own, other] = [newId("host"), newId("host"), newId("host")];
});
afterEach(async () => {
  for (const hostId of [deleted, own, other]) await removeHost(docker, hostId);
  for (const name of await readdir(join(base, "volumes")).catch(() => []))
    await run("umount", [join(base, "volumes", name)]).catch(() => undefined); // not mounted
  await run("chattr", ["-R", "-i", base]).catch(() => undefined);
  await rm(base, { recursive: true, force: true });
});

it("the sets of a deleted host end, its volumes become trash of this host, and others stay", async () => {
  const set = localSet({
    image: baseImage,
    names: ["app"],
    template: { volume: { size: "32Mi", mountPath: "/data" } },
  });
  const volumes = await startOn(deleted, set);
  await writeFile(join(volumes.getDataPath(set), "file"), "precious");
  await startOn(own, localSet({ image: baseImage, names: ["app"] }));
  await startOn(other, localSet({ image: baseImage, names: ["app"] }));
  expect(await runningOn(deleted)).toBe(2);

  const [emptyCgroup = ""] = await findHostCgroups(deleted);
  expect(emptyCgroup).not.toBe("");

  const previousHosts = composePreviousHosts(settings, { docker, hostId: own, log });
  await previousHosts.remove(deleted, signal);
  const left = { all: true, filters: { label: [`berth.host=${deleted}`] } };
  expect(await docker.listContainers(left)).toEqual([]);
  expect(await findHostCgroups(deleted)).toEqual([]);
  expect([await runningOn(own), await runningOn(other)]).toEqual([2, 2]);

  const adopted = await openVolumes(own);
  const [volume] = await adopted.list(signal);
  expect(volume).toMatchObject({ state: "trashed", setId: set.setId, tenant: set.tenant });
  expect(await volumes.list(signal)).toEqual([]);
  await mkdir(emptyCgroup, { recursive: true });
  await previousHosts.remove(deleted, signal); // only that is left
  expect(await findHostCgroups(deleted)).toEqual([]);
  expect(await findHostCgroups(other)).not.toEqual([]);
  const restored = {
    setId: newId("set"),
    tenant: set.tenant,
    service: set.service,
    generation: 2,
    sizeBytes: 32 * 2 ** 20,
    restoreFrom: volume?.volumeId,
  };
  const { dataPath } = await adopted.ensure(restored, signal);
  expect(await readFile(join(dataPath, "file"), "utf8")).toBe("precious");
  await adopted.trash(restored.setId, signal);
});

it("a container that Docker cannot inspect prevents the end of no set of a deleted host", async () => {
  const [stuck, other] = [localSet({ image: baseImage }), localSet({ image: baseImage })];
  await startOn(deleted, stuck);
  await startOn(deleted, other);
  const label = [`berth.set=${stuck.setId}`, "berth.container=app"];
  const [listed] = await docker.listContainers({ filters: { label } });
  if (!listed) throw new Error("the set runs");
  const proxy = await startDockerProxy();
  const refuse = (refused: readonly string[]) => {
    proxy.answers = (request) =>
      refused.some((method) => request.startsWith(`${method} /containers/${listed.Id}`))
        ? { status: 500, lines: [{ message: "the container is locked" }] }
        : undefined;
  };
  try {
    const previousHosts = composePreviousHosts(settings, {
      docker: proxy.docker,
      hostId: own,
      log,
    });
    refuse(["GET", "POST", "DELETE"]);
    await expect(previousHosts.remove(deleted, signal)).rejects.toThrow("locked");
    const left = await docker.listContainers({ filters: { label: [`berth.host=${deleted}`] } });
    expect(new Set(left.map(({ Labels }) => Labels["berth.set"]))).toEqual(new Set([stuck.setId]));
    refuse(["GET"]);
    await previousHosts.remove(deleted, signal);
    expect(await runningOn(deleted)).toBe(0);
  } finally {
    await proxy.close();
  }
});

async function openVolumes(hostId: string) {
  const volumes = await openHostVolumes(settings, { hostId, log });
  if (!volumes) throw new Error("the host has volumes");
  return volumes.port;
}

async function startOn(hostId: string, set: LocalSetSpec) {
  const volumes = await openVolumes(hostId);
  const port = composeSetEngine({ docker, hostId, log, volumes });
  await port.prepare(set, signal);
  await port.start(set, ["app"], signal);
  return volumes;
}

async function runningOn(hostId: string): Promise<number> {
  return (await docker.listContainers({ filters: { label: [`berth.host=${hostId}`] } })).length;
}
