import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type Docker from "dockerode";
import { afterAll, beforeAll, expect, it } from "vitest";
import { newId } from "../../src/lib/ids.ts";
import { removeContainers } from "../support/docker/remove-containers.ts";
import {
  createContainer,
  createNetwork,
  type DriverHost,
  fetchFrom,
  readInterface,
  serveText,
  startDriverHost,
  type TestNetwork,
} from "../support/network/driver-host.ts";
import { networkBasics } from "../support/network/host-network.ts";
import { sampleRule } from "../support/network/rule-samples.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { waitUntil } from "../support/wait-until.ts";

const run = promisify(execFile);
/** More rounds on request: each takes two to four seconds. The seed repeats a run. */
const roundsMax = Number(process.env["BERTH_TEST_KILLS"] ?? 8);
const budgetMs = roundsMax * 15_000;
const seed = Number(process.env["BERTH_TEST_SEED"] ?? 20_261_130);
/** A container starts and stops within this time, so a kill within it hits each step. */
const killWithinMs = 900;
const convergenceMs = 150_000;

let host: DriverHost;
beforeAll(async () => {
  host = await startDriverHost();
});
afterAll(() => host.close());

it(
  "kill -9 at any point of attach and detach leaks nothing, beside a service address and rules",
  async () => {
    const random = seededRandom(seed);
    const network = await createNetwork(host, { vni: 4097 });
    const client = await createContainer(host.docker, { network, address: "10.64.0.8" });
    const stranger = await createContainer(host.docker, { network, address: "10.64.0.7" });
    await Promise.all([client.start(), stranger.start()]);
    await putService(network);
    const namespaces = await countNamespaces();
    expect(namespaces).toBeGreaterThan(0);
    const startedAtMs = performance.now();
    let rounds = 0;
    for (; rounds < roundsMax && performance.now() - startedAtMs < budgetMs; rounds++) {
      const server = await createServer(network);
      // Two starts, a restart and a removal: Docker repeats the calls that the kills break.
      const work = (async () => {
        await repeatLostCall(() => server.start());
        await repeatLostCall(() => server.restart({ t: 0 }));
      })();
      const failure = work.then(
        () => undefined,
        (error: unknown) => error,
      );
      await killAfter(random() * killWithinMs);
      expect(await failure, `seed ${seed}, round ${rounds}`).toBeUndefined();
      expect((await readInterface(server)).addresses).toEqual(["10.64.0.9/16"]);
      for (const address of ["10.64.0.9", serviceAddress]) {
        expect(await fetchFrom(client, address)).toBe("nine");
        expect([address, rounds, await isSilent(stranger, address)]).toEqual([
          address,
          rounds,
          true,
        ]);
      }
      await expectAgreement(3);
      const removal = server.remove({ force: true });
      await killAfter((random() * killWithinMs) / 2);
      await removal;
      await expectAgreement(2);
    }
    // A kill may delay the removal until the driver finds that the set is missing.
    await waitUntil("no flow leads to it", async () => (await listBackends()).length === 0, {
      deadlineMs: convergenceMs,
    });
    expect(rounds).toBeGreaterThan(0);
    expect(await countNamespaces()).toBe(namespaces);
    await removeContainers(host.docker);
    await expectAgreement(0, { ofRecords: true });
  },
  budgetMs + 300_000,
);

it(
  "a daemon and a driver that die together leak nothing either, and the address is free",
  async () => {
    const random = seededRandom(seed + 1);
    const network = await createNetwork(host, { vni: 4098 });
    const startedAtMs = performance.now();
    const rounds = Math.ceil(roundsMax / 3);
    for (let round = 0; round < rounds && performance.now() - startedAtMs < budgetMs; round++) {
      const first = await createServer(network);
      const starting = first.start().catch(() => undefined);
      await killBothAfter(random() * killWithinMs);
      await starting;
      // A killed daemon may be unable to start this very container again, as without the driver.
      await removeContainers(host.docker);
      const second = await createServer(network);
      await second.start();
      expect((await readInterface(second)).addresses).toEqual(["10.64.0.9/16"]);
      await expectAgreement(1);
      const removal = second.remove({ force: true }).catch(() => undefined);
      await killBothAfter((random() * killWithinMs) / 2);
      await removal;
      await removeContainers(host.docker);
    }
    await expectAgreement(0, { ofRecords: true });
  },
  budgetMs + 300_000,
);

const serviceAddress = "10.64.1.1";

/** A network state with a service, whose set accepts connections of the first client only. */
async function putService(network: TestNetwork): Promise<void> {
  const serviceOf = (name: string, last: number, addresses: string[] = []) => ({
    serviceId: newId("svc"),
    name,
    addresses,
    members: [{ setId: newId("set"), addresses: [`10.64.0.${last}`], isEndpoint: true }],
    ports: [],
  });
  const [web, known] = [serviceOf("web", 9, [serviceAddress]), serviceOf("client", 8)];
  const ofWeb = { serviceId: web.serviceId, direction: "ingress" } as const;
  const peer = { kind: "service", serviceId: known.serviceId } as const;
  const rules = [
    sampleRule(0, { ...ofWeb, action: "deny", priority: 1 }),
    sampleRule(1, { ...ofWeb, action: "allow", priority: 2, peer }),
  ];
  const answer = await host.control("PUT", "/v1/network-state", {
    source: "test-services",
    version: 1,
    tunnelAddress: null,
    networks: [
      {
        ...networkBasics,
        networkId: network.networkId,
        vni: network.vni,
        gateways: ["10.64.0.1"],
        remotePorts: [],
        services: [web, known, serviceOf("stranger", 7)],
        rules,
      },
    ],
  });
  expect(answer).toMatchObject({ status: 200, body: { isApplied: true, isStored: true } });
}

/** Whether a connection gets neither an answer nor a refusal. */
async function isSilent(container: Docker.Container, address: string): Promise<boolean> {
  const { State } = await container.inspect();
  const connect = ["timeout", "0.3", "bash", "-c", `exec 3<>/dev/tcp/${address}/80`];
  const enter = [`--net=/proc/${State.Pid}/ns/net`, ...connect];
  return run("nsenter", enter).then(
    () => false,
    ({ code }: { code?: number }) => code === 124,
  );
}

/** The flows that address packets to a set of the service. */
async function listBackends(): Promise<string[]> {
  const dump = await host.ovs.ovs("ovs-ofctl", "dump-flows", "--no-stats", host.bridge, "table=12");
  return dump.split("\n").filter((line) => line.includes("10.64.0.9"));
}

/**
 * If the driver dies during a call, Docker repeats the call without its content and fails. Then the
 * agent tries again.
 */
async function repeatLostCall(work: () => Promise<unknown>): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await work();
      return;
    } catch (error) {
      const isLost = String(error).includes("Docker repeated a call without its content");
      if (!isLost || attempt === 3) throw error;
    }
  }
}

async function createServer(network: TestNetwork): Promise<Docker.Container> {
  const command = serveText("nine");
  return createContainer(host.docker, { network, address: "10.64.0.9", command });
}

async function killAfter(afterMs: number): Promise<void> {
  await delay(afterMs); // the time of the kill varies, so this is not a wait
  await host.endDriver("SIGKILL");
  await host.startDriver();
}

async function killBothAfter(afterMs: number): Promise<void> {
  await delay(afterMs); // as above
  await Promise.all([host.endDriver("SIGKILL"), host.privateDocker.kill()]);
  await host.startDriver();
  await host.privateDocker.start();
}

/**
 * There is one link and one port for each of this number of running containers. A lost call of
 * Docker leaves a record for at most a minute and a half.
 */
async function expectAgreement(containers: number, { ofRecords = false } = {}): Promise<void> {
  const deadlineMs = convergenceMs;
  const check = async (): Promise<boolean> => {
    const links = await host.listLinks();
    const ports = await host.listSwitchPorts();
    const { endpoints, isReady } = await host.status();
    const agree = links.length === containers && JSON.stringify(links) === JSON.stringify(ports);
    if (agree && isReady && (endpoints === containers || !ofRecords)) return true;
    throw new Error(JSON.stringify({ links, ports, endpoints, isReady }));
  };
  await waitUntil(`links and ports of ${containers}`, check, { deadlineMs, everyMs: 50 });
}

/** Docker mounts the network namespace of each container. It deletes the empty files later. */
async function countNamespaces(): Promise<number> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  const folder = `${dirname(host.privateDocker.socketPath)}/exec/netns/`;
  return mounts.split("\n").filter((line) => line.includes(folder)).length;
}
