import { appendFile, copyFile, mkdtemp, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { beforeAll } from "vitest";
import type { NetworkPort, ProbedEndpoint } from "../../src/agent/ports/network-port.ts";
import { createBridgeNetwork } from "../../src/host-adapters/docker/bridge-network.ts";
import { dockerName } from "../../src/host-adapters/docker/container-labels.ts";
import { createDockerDaemon } from "../../src/host-adapters/docker/docker-daemon.ts";
import { createDockerImages } from "../../src/host-adapters/docker/docker-images.ts";
import { createDockerNetworks } from "../../src/host-adapters/docker/docker-networks.ts";
import { createSetNetworks } from "../../src/host-adapters/docker/set-networks.ts";
import { createDockerLogs } from "../../src/host-adapters/docker/docker-logs.ts";
import { volumeError } from "../../src/host-adapters/volumes/block-store.ts";
import { createSetVolumes } from "../../src/host-adapters/volumes/set-volumes.ts";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { composeEnginePorts } from "../../src/main/compose/set-engine.ts";
import { describeCgroupPort } from "../contract/cgroup-port.ts";
import { describeContainerPort } from "../contract/container-port.ts";
import { describeDaemonPort } from "../contract/daemon-port.ts";
import { describeImagePort } from "../contract/image-port.ts";
import { describeLogPort } from "../contract/log-port.ts";
import { describeNetworkPort, type NetworkPortHarness } from "../contract/network-port.ts";
import { describeSetVolumes } from "../contract/set-volumes.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { findHostCgroups, removeHost } from "../support/docker/docker-host.ts";
import { startDockerProxy } from "../support/docker/docker-proxy.ts";
import { openLoopHarness } from "../support/volumes/loop-harness.ts";

const docker = new Docker();
const log = silentLog;

beforeAll(() => ensureBaseImage(docker));

/** The ports of two hosts on this machine. */
function openHosts() {
  const hostIds = [newId("host"), newId("host")] as const;
  const open = (hostId: string) => composeEnginePorts({ docker, hostId, log });
  const close = async () => {
    await Promise.all(hostIds.map((hostId) => removeHost(docker, hostId)));
  };
  return {
    hostId: hostIds[0],
    otherHostId: hostIds[1],
    own: open(hostIds[0]),
    other: open(hostIds[1]),
    close,
  };
}

describeContainerPort("Docker", async () => {
  const { own, other, close } = openHosts();
  const foreignIds: string[] = [];
  return {
    containers: own.containers,
    otherHost: other.containers,
    image: baseImage,
    infraImage: await own.images.infraImage(),
    cgroupParentOf: (setId) => own.cgroups.parentOf(setId),
    listProcesses: (setId, dockerId) => own.cgroups.listProcesses(setId, dockerId),
    async occupyName(setId, name) {
      const foreign = await docker.createContainer({
        name: dockerName(setId, name),
        Image: baseImage,
      });
      foreignIds.push(foreign.id);
      const read = async () => {
        const { Id, State, HostConfig } = await foreign.inspect();
        return JSON.stringify({ Id, State, HostConfig });
      };
      const before = await read();
      return { isUntouched: async () => (await read()) === before };
    },
    async close() {
      for (const id of foreignIds) await docker.getContainer(id).remove({ force: true });
      await close();
    },
  };
});

describeImagePort("Docker", async () => {
  const base = await mkdtemp(join(tmpdir(), "berth-images-"));
  // The tag is a hash of the content, so no other test has this image.
  const busyboxPath = join(base, "busybox");
  await copyFile("/bin/busybox", busyboxPath);
  await appendFile(busyboxPath, newId("set"));
  const images = createDockerImages({ docker, log, busyboxPath });
  const removeInfraImage = async () => {
    await docker.getImage(await images.infraImage()).remove();
  };
  return {
    images,
    image: baseImage,
    removeInfraImage,
    async close() {
      await removeInfraImage();
      await rm(base, { recursive: true });
    },
  };
});

describeCgroupPort("the cgroups of this machine", async () => {
  const { hostId, otherHostId, own, other, close } = openHosts();
  await Promise.all([own.daemon.facts(), other.daemon.facts()]);
  const listHostCgroups = async () => ({
    own: await findHostCgroups(hostId),
    other: await findHostCgroups(otherHostId),
  });
  return { cgroups: own.cgroups, otherHost: other.cgroups, listHostCgroups, close };
});

describeDaemonPort("Docker", async () => {
  const proxy = await startDockerProxy();
  return {
    daemon: createDockerDaemon({ docker: proxy.docker, log }),
    setHanging(isHanging) {
      proxy.hangs = () => isHanging;
    },
    close: () => proxy.close(),
  };
});

describeLogPort("Docker", async () => {
  const { hostId, close } = openHosts();
  return {
    logs: createDockerLogs(docker),
    async print(lines) {
      const container = await docker.createContainer({
        Image: baseImage,
        Cmd: ["/bin/sh", "-c", 'for line; do echo "$line"; done; sleep 1000', "sh", ...lines],
        Labels: { "berth.host": hostId },
      });
      await container.start();
      return container.id;
    },
    close,
  };
});

const setNetworks = createSetNetworks({
  networks: createDockerNetworks(docker, "berth"),
  bridge: createBridgeNetwork(),
  busyboxPath: "/bin/busybox",
  isDriverReady: async () => false,
  log,
});

describeNetworkPort("Docker's bridge", async () => openNetwork(createBridgeNetwork(), {}));
// The probes enter the network namespace of this process.
const ownNamespace = { listProcesses: async () => [process.pid] };
describeNetworkPort("a network namespace", async () => openNetwork(setNetworks, ownNamespace));

function openNetwork(
  network: NetworkPort,
  members: Pick<ProbedEndpoint, "listProcesses">,
): NetworkPortHarness {
  const closers: (() => void)[] = [];
  const listen = async (answer: string | undefined) => {
    const server = createServer((socket) => {
      closers.push(() => socket.destroy());
      socket.on("error", () => undefined);
      if (answer !== undefined) socket.once("data", () => socket.end(answer));
    });
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("the server listens");
    return { server, endpoint: { address: "127.0.0.1", port: address.port, ...members } };
  };
  return {
    network,
    async serve(answer) {
      const { server, endpoint } = await listen(answer);
      closers.push(() => server.close());
      return endpoint;
    },
    async closedEndpoint() {
      const { server, endpoint } = await listen(undefined);
      await new Promise((resolve) => {
        server.close(resolve);
      });
      return endpoint;
    },
    close: async () => closers.forEach((close) => close()),
  };
}

describeSetVolumes("image files", async () => {
  const harness = await openLoopHarness("ext4", 32 * 2 ** 20);
  const store = harness.openStore();
  let isFailing = false;
  const list = store.list.bind(store);
  store.list = async (signal) => {
    if (isFailing) throw volumeError("volume-failed", "no such group", { temporary: true });
    return list(signal);
  };
  const volumes = createVolumes({
    store,
    root: harness.root,
    fileSystem: harness.fileSystem,
    retentionMs: 3_600_000,
    purgesEarly: false,
    log,
  });
  return {
    volumes: createSetVolumes(volumes, log),
    sizeBytes: harness.sizeBytes,
    async isMounted(path) {
      const found = await stat(path).catch(() => undefined);
      return found !== undefined && found.dev !== (await stat(harness.root)).dev;
    },
    setFailing(fails) {
      isFailing = fails;
    },
    close: () => harness.close(),
  };
});
