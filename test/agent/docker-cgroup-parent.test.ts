import Docker from "dockerode";
import { afterEach, beforeEach, expect, it } from "vitest";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { specHash } from "../../src/agent/model/spec-hash.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { localSet } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";

const docker = new Docker();
const { signal } = new AbortController();
let hostId: string;
let port: SetPort;

beforeEach(() => {
  hostId = newId("host");
  port = composeSetEngine({ docker, hostId, log: silentLog });
});
afterEach(() => removeHost(docker, hostId));

/** Replaces a container by an equal one in the cgroup that another driver would have. */
async function moveElsewhere(
  { setId }: LocalSetSpec,
  name: string,
  changes: Docker.HostConfig = {},
): Promise<string> {
  const container = docker.getContainer(`berth-${setId}-${name}`);
  const { Config, HostConfig, Name } = await container.inspect();
  // Docker accepts no host name for a container that joins the network of another one.
  const { Hostname: _host, Domainname: _domain, ...config } = Config;
  await container.remove({ force: true });
  const moved = await docker.createContainer({
    ...config,
    ExposedPorts: {},
    name: Name.slice(1),
    HostConfig: { ...HostConfig, CgroupParent: `/berth-elsewhere/${hostId}`, ...changes },
  });
  return moved.id;
}

it("containers in the cgroup of another driver are outdated, and a preparation replaces them", async () => {
  const set = localSet();
  await port.prepare(set, signal);
  const infraId = await moveElsewhere(set, "infra");
  const joined = `container:${infraId}`;
  await moveElsewhere(set, "app", { NetworkMode: joined, IpcMode: joined });
  const before = await port.observeSet(set.setId, signal);
  for (const container of [before?.infra, before?.containers[0]])
    expect(container?.specHash).not.toBe(specHash(set, container?.name ?? ""));
  await port.prepare(set, signal);
  await port.start(set, ["app"], signal);
  const after = await port.observeSet(set.setId, signal);
  expect(after?.containers[0]).toMatchObject({ state: "running", specHash: specHash(set, "app") });
  for (const name of ["infra", "app"]) {
    const { HostConfig } = await docker.getContainer(`berth-${set.setId}-${name}`).inspect();
    expect(HostConfig.CgroupParent).toBe(`/berth/${hostId}/${set.setId}`);
  }
});

it("a container in the cgroup of its set is never outdated because of it", async () => {
  const set = localSet();
  await port.prepare(set, signal);
  await port.start(set, ["app"], signal);
  const before = await port.observeSet(set.setId, signal);
  await port.prepare(set, signal);
  const after = await port.observeSet(set.setId, signal);
  expect(after?.infra?.dockerId).toBe(before?.infra?.dockerId);
  expect(after?.containers[0]?.dockerId).toBe(before?.containers[0]?.dockerId);
});
