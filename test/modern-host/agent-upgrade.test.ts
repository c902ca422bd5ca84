import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { Service } from "../../src/contracts/api/services.ts";
import {
  listRuns,
  removeService,
  serviceBody,
  startService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { replaceAgent, requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const deadlineMs = 120_000;
const root = fileURLToPath(new URL("../..", import.meta.url));

// The host has one CPU for all three sets.
const small = { cpu: 0.2 };

beforeAll(() => startService("upgrade", small));

afterAll(async () => {
  await Promise.all([removeService("upgrade"), removeService("meanwhile")]);
  await replaceAgent(
    `cp /machine${root}package.json /opt/berth/ && systemctl restart berth-host-agent`,
  );
});

it("an upgrade of the agent under load fails no request and restarts no container", async () => {
  const { id, address } = await waitReady("upgrade");
  const before = await listRuns(id);
  // The service must continue to answer, and another one starts while the agent is replaced.
  await runOnHost(
    `systemd-run --quiet --unit=load sh -c 'until [ -e /run/load-end ]; do
      curl --silent --fail --max-time 20 --output /dev/null http://${address}:8080/sh && echo answered || echo refused
    done'`,
  );
  await requestBerth("POST", "/v1/services", { ...serviceBody("meanwhile", small), replicas: 2 });
  const manifest = JSON.parse(await readFile(`${root}package.json`, "utf8")) as object;
  await replaceAgent(
    `cat >/opt/berth/package.json <<'JSON'
${JSON.stringify({ ...manifest, version: "9.9.9" })}
JSON
    systemctl restart berth-host-agent`,
  );
  await waitUntil(
    "the new version reports",
    async () => {
      const { items } = await requestBerth<{ items: Host[] }>("GET", "/v1/hosts");
      return items.some(({ agentVersion, state }) => agentVersion === "9.9.9" && state === "ready");
    },
    { deadlineMs },
  );
  await waitUntil(
    "the other service is ready",
    async () => {
      const { settled, counts } = await requestBerth<Service>("GET", "/v1/services/meanwhile");
      return settled && counts.ready === 2;
    },
    { deadlineMs },
  );

  await runOnHost("touch /run/load-end");
  const log = (await runOnHost("journalctl --output=cat --unit=load")).split("\n");
  expect(log.filter((line) => line === "refused")).toEqual([]);
  expect(log.filter((line) => line === "answered").length).toBeGreaterThan(10);
  expect(await listRuns(id)).toEqual(before);
});
