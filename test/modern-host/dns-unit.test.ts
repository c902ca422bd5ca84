import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const unit = "berth-dns";
const program = "/run/berth-dns-test.mjs";
const deadlineMs = 120_000;
const address = "198.19.255.255";
const client = "198.19.16.2";

/** Acts as the network driver, and as a set: both run on the host. */
const source = `
import { Resolver } from "node:dns/promises";
import { createUnboundServer } from "/opt/berth/dist/host-adapters/unbound/unbound-server.js";
const [action, value] = process.argv.slice(2);
if (action === "write") {
  const server = createUnboundServer({
    folder: "/var/lib/unbound/berth",
    user: "unbound",
    address: "${address}",
    clientSubnet: "198.19.0.0/16",
    readResolvers: async () => ["127.0.0.5"],
  });
  const records = [{ name: "web", type: "A", address: value }];
  const table = {
    zones: [{ zoneId: "net_red", records }],
    clients: [{ address: "${client}", zoneIds: ["net_red"] }],
  };
  await server.apply(table, AbortSignal.timeout(60_000));
  console.log("applied");
} else {
  const resolver = new Resolver({ timeout: 5_000, tries: 2 });
  resolver.setServers(["${address}"]);
  resolver.setLocalAddress("${client}");
  console.log((await resolver.resolve4(value + ".berth.internal").catch(({ code }) => [code])).join());
}
`;
const write = (webAddress: string) => runOnHost(`node ${program} write ${webAddress} 2>&1 || true`);
const resolve = (name: string) => runOnHost(`node ${program} resolve ${name}`);
const show = (property: string) =>
  runOnHost(`systemctl show --property=${property} --value ${unit}`);
const untilActive = async () =>
  waitUntil("the unit is active", async () => (await show("SubState")) === "running", {
    deadlineMs,
  });

/** Installs the unit as docs/guides/prepare-hosts.md says. The files do not exist yet. */
beforeAll(async () => {
  const encoded = Buffer.from(source).toString("base64");
  await runOnHost(
    `set -e
    echo ${encoded} | base64 -d >${program}
    for each in ${address} ${client}; do ip address add $each/32 dev lo; done
    cp /machine${root}systemd/${unit}.service /etc/systemd/system/
    systemctl daemon-reload
    systemctl enable --now ${unit} || true`,
  );
});

afterAll(async () => {
  await runOnHost(
    `systemctl disable --now ${unit}
    rm -rf /etc/systemd/system/${unit}.service ${program} /var/lib/unbound/berth
    for each in ${address} ${client}; do ip address delete $each/32 dev lo; done
    systemctl daemon-reload
    systemctl reset-failed`,
  );
});

it("systemd starts the name server again until its files exist", async () => {
  const hasRestarted = async () => Number(await show("NRestarts")) >= 2;
  await waitUntil("systemd has tried twice", hasRestarted, { deadlineMs });
  expect(await runOnHost("pgrep -x unbound || true")).toBe("");
  // The driver writes the files before it calls the server, which does not run.
  expect(await write("10.64.0.2")).not.toBe("applied");
  await untilActive();
  await expect.poll(() => write("10.64.0.2"), { timeout: deadlineMs }).toBe("applied");
  await expect.poll(() => resolve("web"), { timeout: deadlineMs }).toBe("10.64.0.2");
  expect(await resolve("other")).toBe("ENOTFOUND");
});

it("a change of the names restarts nothing", async () => {
  const pid = await show("MainPID");
  expect(await write("10.64.0.3")).toBe("applied");
  await expect.poll(() => resolve("web"), { timeout: deadlineMs }).toBe("10.64.0.3");
  expect(await show("MainPID")).toBe(pid);
});

it("systemd starts a killed name server again, with the names", async () => {
  const pid = await show("MainPID");
  await runOnHost(`kill -KILL ${pid}`);
  const isReplaced = async () => !["0", pid].includes(await show("MainPID"));
  await waitUntil("another server runs", isReplaced, { deadlineMs });
  await expect.poll(() => resolve("web"), { timeout: deadlineMs }).toBe("10.64.0.3");
});

it("the kernel kills others first and bounds the memory, and the server stops in order", async () => {
  const [oom, max, user] = (
    await runOnHost(
      `pid=$(systemctl show --property=MainPID --value ${unit})
      cat /proc/$pid/oom_score_adj /sys/fs/cgroup/system.slice/${unit}.service/memory.max
      stat -c %U /proc/$pid`,
    )
  ).split("\n");
  expect([oom, max, user]).toEqual(["-500", String(2 ** 30), "unbound"]);
  await runOnHost(`systemctl stop ${unit}`);
  expect(await show("Result")).toBe("success");
  expect(await runOnHost("pgrep -x unbound || true")).toBe("");
});
