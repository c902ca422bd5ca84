import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import Docker from "dockerode";
import { describe, expect, it } from "vitest";
import type { SelfTestPort } from "../../src/agent/ports/self-test-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { composeSelfTest } from "../../src/main/compose/self-test.ts";
import { startDockerProxy } from "../support/docker/docker-proxy.ts";

const { signal } = new AbortController();

function selfTestOf(
  docker: Docker,
  more: { busyboxPath?: string; cleanupTimeoutMs?: number } = {},
) {
  const hostId = newId("host");
  return {
    hostId,
    port: composeSelfTest({ docker, hostId, log: silentLog, fileSystem: "ext4", ...more }),
  };
}

async function findLeft(docker: Docker, hostId: string) {
  const filters = { label: [`berth.self-test=${hostId}`] };
  const containers = await docker.listContainers({ all: true, filters });
  const { stdout } = await promisify(execFile)("find", [
    "/sys/fs/cgroup",
    "-path",
    `*${hostId}*self_test*`,
  ]);
  return { containers: containers.length, cgroups: stdout.trim() };
}

/** Removes the infra image that a test has built from another program. */
async function removeInfraImage(docker: Docker, program: string): Promise<void> {
  const content = createHash("sha256")
    .update("1")
    .update(await readFile(program));
  await docker.getImage(`berth-infra:${content.digest("hex").slice(0, 16)}`).remove();
}

const failureOf = (port: SelfTestPort) =>
  port.run(signal).then(
    () => undefined,
    (error: unknown) => error,
  );

describe("the self test of a machine", () => {
  it("passes where sets run, and leaves nothing", async () => {
    const docker = new Docker();
    const { hostId, port } = selfTestOf(docker);
    expect(await port.describeDocker(signal)).toMatchObject({
      version: expect.stringMatching(/^\d+\./),
      cgroupDriver: expect.stringMatching(/^(cgroupfs|systemd)$/),
    });
    await port.run(signal);
    await port.run(signal);
    expect(await findLeft(docker, hostId)).toEqual({ containers: 0, cgroups: "" });
  });

  it("removes the container that a crashed test left", async () => {
    const docker = new Docker();
    const { hostId, port } = selfTestOf(docker);
    await port.run(signal);
    const [image] = (await docker.listImages()).flatMap(({ RepoTags }) =>
      (RepoTags ?? []).filter((tag) => tag.startsWith("berth-infra:")),
    );
    await docker.createContainer({
      Image: image,
      Labels: { "berth.self-test": hostId },
      Cmd: ["sh"],
    });
    await port.run(signal);
    expect(await findLeft(docker, hostId)).toEqual({ containers: 0, cgroups: "" });
  });

  it("fails with a BusyBox that is linked dynamically", async () => {
    const docker = new Docker();
    const { hostId, port } = selfTestOf(docker, { busyboxPath: "/bin/cat" });
    expect(await failureOf(port)).toMatchObject({
      code: "infra-failed",
      message: expect.stringContaining("must be linked statically (Debian: busybox-static)"),
    });
    expect(await findLeft(docker, hostId)).toEqual({ containers: 0, cgroups: "" });
    await removeInfraImage(docker, "/bin/cat");
  });

  it("fails without a BusyBox", async () => {
    const { port } = selfTestOf(new Docker(), { busyboxPath: "/nowhere/busybox" });
    expect(await failureOf(port)).toMatchObject({ code: "infra-image-missing" });
  });

  // A second daemon with `--bridge=none` would delete docker0 of this machine.
  it("fails where Docker has no bridge", async () => {
    const proxy = await startDockerProxy();
    proxy.answers = (request) =>
      request.startsWith("GET /networks/bridge")
        ? { status: 404, lines: [{ message: "network bridge not found" }] }
        : undefined;
    const { port } = selfTestOf(proxy.docker);
    expect(await failureOf(port)).toMatchObject({
      code: "bridge-missing",
      message: expect.stringContaining('"bridge": "none"'),
    });
    await proxy.close();
  });

  it.each(["fails", "hangs"])(
    "passes where the removal of its container %s, and starts no more than five",
    async (fault) => {
      const proxy = await startDockerProxy();
      const { hostId, port } = selfTestOf(proxy.docker, { cleanupTimeoutMs: 500 });
      const isRemoval = (request: string) => request.startsWith("DELETE /containers/");
      if (fault === "hangs") proxy.hangs = isRemoval;
      else {
        proxy.answers = (request) =>
          isRemoval(request) ? { status: 500, lines: [{ message: "device busy" }] } : undefined;
      }
      for (let run = 0; run < 6; run++) await port.run(signal);
      expect((await findLeft(new Docker(), hostId)).containers).toBe(5);
      proxy.hangs = () => false;
      proxy.answers = () => undefined;
      await port.run(signal);
      expect((await findLeft(new Docker(), hostId)).containers).toBe(0);
      await proxy.close();
    },
  );

  it("leaves nothing when it is aborted while Docker hangs", async () => {
    const proxy = await startDockerProxy();
    const { hostId, port } = selfTestOf(proxy.docker);
    const stopping = new AbortController();
    proxy.hangs = (request) => {
      const isWait = request.startsWith("POST /containers/") && request.includes("/wait");
      if (isWait) stopping.abort(new Error("the test is late"));
      return isWait;
    };
    await expect(port.run(stopping.signal)).rejects.toThrow("the test is late");
    expect(await findLeft(new Docker(), hostId)).toEqual({ containers: 0, cgroups: "" });
    await proxy.close();
  });

  it("fails while Docker does not run", async () => {
    const { port } = selfTestOf(new Docker({ socketPath: "/nowhere/docker.sock" }));
    await expect(port.describeDocker(signal)).rejects.toMatchObject({ code: "docker-unavailable" });
  });
});
