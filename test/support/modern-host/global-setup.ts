import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import type { Host } from "../../../src/contracts/api/hosts.ts";
import { migrate } from "../../../src/db/migrate.ts";
import { requestJson } from "../servers/berth-process.ts";
import { findFreePort, startChildServer } from "../servers/child-server.ts";
import { startMain } from "../servers/main-process.ts";
import { startPostgres } from "../servers/postgres-server.ts";
import { startRedis } from "../servers/redis-server.ts";
import { waitUntil } from "../wait-until.ts";
import { importBaseImage } from "./host-service.ts";
import { runOnHost, waitForBoot } from "./modern-host.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const adminToken = "brt_an-admin-of-the-modern-host-tests";
const startDeadlineMs = 60_000;

/**
 * Boots the test host, starts an API and a job worker on this machine, and installs the agent on
 * the host as docs/guides/three-machines.md says. Vitest calls the returned function after the last
 * file.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const closing: (() => Promise<unknown>)[] = [];
  const close = async () => {
    for (const step of closing.toReversed()) await step();
  };
  try {
    await mkdir(path.join(root, ".berth"), { recursive: true });
    const folder = await mkdtemp(path.join(root, ".berth/modern-host-"));
    closing.push(() => rm(folder, { recursive: true, force: true }));
    const host = startChildServer(path.join(root, "scripts/modern-host"), [folder], {
      deathSignal: "TERM",
    });
    closing.push(() => host.kill("SIGTERM"));
    await waitUntil(
      "scripts/modern-host starts",
      () => existsSync(path.join(folder, "ready")) || host.outputTail() !== "",
      { deadlineMs: startDeadlineMs },
    );
    if (host.outputTail() !== "") throw new Error(host.outputTail());
    const machineAddress = await readFile(path.join(folder, "machine-address"), "utf8");
    const apiUrl = await startControlPlane(machineAddress.trim(), closing);
    await waitForBoot(folder);
    await install(folder, apiUrl);
    project.provide("modernHost", { folder, apiUrl, adminToken });
    return close;
  } catch (error) {
    await close();
    throw error;
  }
}

/** Returns the URL of the API, which listens on the network of the test host. */
async function startControlPlane(
  address: string,
  closing: (() => Promise<unknown>)[],
): Promise<string> {
  const [database, redis, port] = await Promise.all([
    startPostgres(),
    startRedis(),
    findFreePort(),
  ]);
  closing.push(() => Promise.all([database.stop(), redis.stop()]));
  await migrate(database.url);
  const backends = { DATABASE_URL: database.url, REDIS_URL: redis.url };
  const [api, jobWorker] = await Promise.all([
    startMain("api", {
      ...backends,
      BERTH_ADMIN_TOKEN: adminToken,
      BERTH_HOST: address,
      BERTH_PORT: String(port),
    }),
    startMain("job-worker", backends),
  ]);
  closing.push(() => Promise.all([api.end("SIGTERM"), jobWorker.end("SIGTERM")]));
  return `http://${address}:${port}`;
}

/** Installs the build and the unit, and waits until the agent has enrolled. */
async function install(folder: string, apiUrl: string): Promise<void> {
  const request = <T>(method: string, target: string, body?: unknown) =>
    requestJson<T>(apiUrl + target, method, adminToken, { body, generation: undefined });
  await request("PUT", "/v1/host-pools/default", {
    // The small disk of the host must not reject sets.
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, rootfsBytes: 100 },
  });
  const { secret } = await request<{ secret: string }>("POST", "/v1/tokens", {
    name: "modern-host",
    role: "enroll",
  });
  await runOnHost(
    `set -e
    ${importBaseImage}
    vgcreate -q berth "$(ls /dev/ubdb /dev/vdb 2>/dev/null)"
    mkdir -p /opt/berth /etc/berth
    cp -r /machine${root}dist /machine${root}package.json /opt/berth/
    ln -s /machine${root}node_modules /opt/berth/node_modules
    cat >/etc/berth/host-agent.env <<'ENV'
BERTH_API_URL=${apiUrl}
BERTH_ENROLL_TOKEN=${secret}
BERTH_AGENT_NAME=modern-host
BERTH_VOLUME_BACKEND=lvm
ENV
    cp /machine${root}systemd/berth-{host-agent,stop-sets}.service /etc/systemd/system/
    cp -r /machine${root}systemd/*.slice.d /etc/systemd/system/
    cp /machine${root}systemd/sysctl.d/berth.conf /etc/sysctl.d/
    systemctl restart systemd-sysctl
    systemctl daemon-reload
    systemctl enable --now berth-host-agent`,
    folder,
  );
  await waitUntil(
    "the agent of the test host has enrolled",
    async () => {
      const { items } = await request<{ items: Host[] }>("GET", "/v1/hosts");
      return items.some(({ state }) => state === "ready");
    },
    { deadlineMs: startDeadlineMs * 2, everyMs: 200 },
  ).catch(async (error: unknown) => {
    const log = await runOnHost("journalctl -u berth-host-agent --no-pager | tail -n 40", folder);
    throw new Error(log, { cause: error });
  });
}
