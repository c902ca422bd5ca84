import type { Service } from "../../../src/contracts/api/services.ts";
import type { BerthSet } from "../../../src/contracts/api/sets.ts";
import { waitUntil } from "../wait-until.ts";
import { requestBerth, runOnHost } from "./modern-host.ts";

/** Programs of the test host take ten times longer than on the machine. */
const settleDeadlineMs = 180_000;
const settleEveryMs = 200;

export const baseImage = "berth-test/busybox:1";

/** A script that imports the image of the tests, with the BusyBox of the host. */
export const importBaseImage = `
  image=/var/tmp/image
  mkdir -p $image/bin
  cp /bin/busybox $image/bin
  for program in sh cat sleep httpd kill dd sync; do ln -sf busybox $image/bin/$program; done
  tar -C $image -c . | docker import -c 'CMD ["/bin/sh"]' -c 'ENV PATH=/bin' - ${baseImage}
`;

/** A service of one set, with an HTTP server that is healthy once it listens. */
export function serviceBody(name: string, template: object = {}): object {
  return {
    name,
    replicas: 1,
    template: {
      cpu: 0.4,
      memory: "64Mi",
      rootfs: "16Mi",
      ...template,
      containers: [
        {
          index: 0,
          name: "app",
          image: baseImage,
          options: {
            cpu: 50,
            memory: 50,
            command: ["/bin/httpd", "-f", "-p", "8080", "-h", "/bin"],
            health: { tcp: { port: 8080 }, timeoutSeconds: 10 },
            stopTimeoutSeconds: 1,
          },
        },
      ],
    },
  };
}

/** Creates the service and waits until its set is ready. Returns the set. */
export async function startService(name: string, template: object = {}): Promise<BerthSet> {
  await requestBerth("POST", "/v1/services", serviceBody(name, template));
  return waitReady(name);
}

/** Waits until the service is settled and its only set is ready. Returns the set. */
export async function waitReady(name: string): Promise<BerthSet> {
  return waitUntil(
    `the service ${name} is ready`,
    async () => {
      const [service, set] = await Promise.all([getService(name), getSet(name)]);
      return service.settled && set?.ready === true && set.resizeApplied && set;
    },
    { deadlineMs: settleDeadlineMs, everyMs: settleEveryMs },
  ).catch(async (error: unknown) => {
    const set = JSON.stringify(await getSet(name));
    const log = await runOnHost("journalctl -u berth-host-agent --no-pager | tail -n 30");
    throw new Error(`${set}\n${log}`, { cause: error });
  });
}

/** Deletes the service and waits until nothing of its set is on the host. */
export async function removeService(name: string): Promise<void> {
  const set = await getSet(name);
  await requestBerth("DELETE", `/v1/services/${name}`);
  if (!set) return;
  await waitUntil(
    `nothing of ${set.id} is on the host`,
    async () =>
      (await runOnHost(
        `docker ps -aq --filter label=berth.set=${set.id}; find /sys/fs/cgroup/berth.slice -name '*${set.id}*'`,
      )) === "",
    { deadlineMs: settleDeadlineMs, everyMs: settleEveryMs },
  );
}

export async function getService(name: string): Promise<Service> {
  return requestBerth<Service>("GET", `/v1/services/${name}`);
}

/** Returns the service's first set. */
export async function getSet(name: string): Promise<BerthSet | undefined> {
  return (await requestBerth<{ items: BerthSet[] }>("GET", `/v1/sets?service=${name}`)).items[0];
}

/**
 * Lists the runs of the containers of a set, or of all sets. Another start or another container
 * changes them. The self test, which the agent runs after its start, does not.
 */
export async function listRuns(setId?: string): Promise<string[]> {
  const label = setId === undefined ? "berth.set" : `berth.set=${setId}`;
  const output = await runOnHost(
    `docker ps -q --no-trunc --filter label=${label} |
      xargs -r docker inspect --format '{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Pid}}' | sort`,
  );
  return output === "" ? [] : output.split("\n");
}

export interface KernelLimits {
  cpuMax: string;
  memoryMax: string;
  memoryLow: string;
  pidsMax: string;
  ioMax: string;
}

/** Reads the limits of the set's slice from the kernel. */
export async function readSliceLimits(setId: string): Promise<KernelLimits> {
  return readKernelLimits(`"$(find /sys/fs/cgroup/berth.slice -name '*${setId}.slice')"`);
}

/** Reads the limits of a container's scope from the kernel. */
export async function readContainerLimits(setId: string, name: string): Promise<KernelLimits> {
  const id = `$(docker inspect --format '{{.Id}}' berth-${setId}-${name})`;
  return readKernelLimits(
    `"$(find /sys/fs/cgroup/berth.slice -path '*${setId}.slice/*' -name "docker-${id}.scope")"`,
  );
}

async function readKernelLimits(folder: string): Promise<KernelLimits> {
  const output = await runOnHost(
    `cd ${folder} && for file in cpu.max memory.max memory.low pids.max io.max; do
      printf '%s|' "$(cat $file 2>/dev/null | tr '\\n' ';')"; done`,
  );
  const [cpuMax = "", memoryMax = "", memoryLow = "", pidsMax = "", ioMax = ""] = output.split("|");
  const trim = (text: string) => text.replace(/;$/, "");
  return {
    cpuMax: trim(cpuMax),
    memoryMax: trim(memoryMax),
    memoryLow: trim(memoryLow),
    pidsMax: trim(pidsMax),
    ioMax: trim(ioMax),
  };
}
