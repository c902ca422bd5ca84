import { type ChildProcess, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer, type Server } from "node:net";
import Docker from "dockerode";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import type { HostPort } from "../../src/contracts/agent-protocol/desired-set.ts";
import { createHostAddress } from "../../src/host-adapters/machine/host-address.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { localSet } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { waitUntil } from "../support/wait-until.ts";

/** Ports of sets on the machine's own Docker, from outside of their containers. */

const docker = new Docker();
const { signal } = new AbortController();
const hostAddress = createHostAddress(undefined)() ?? "127.0.0.1";
let hostId: string;
let port: SetPort;
const servers: Server[] = [];
const children: ChildProcess[] = [];

beforeEach(() => {
  hostId = newId("host");
  port = composeSetEngine({ docker, hostId, log: silentLog });
});
afterEach(async () => {
  for (const server of servers.splice(0)) await close(server);
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await removeHost(docker, hostId);
});

const serve = [
  "sh",
  "-c",
  "mkdir -p /www && echo served > /www/index.html && exec httpd -f -p 8080 -h /www",
];

function publishing(hostPorts: HostPort[]): LocalSetSpec {
  return { ...localSet({ options: { command: serve } }), hostPorts };
}

async function start(set: LocalSetSpec): Promise<void> {
  await port.prepare(set, signal);
  await port.start(set, ["app"], signal);
}

async function close(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
}

/** A server of the machine, as another program would run it. */
async function occupy(wanted = 0): Promise<{ server: Server; taken: number }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(wanted, "0.0.0.0", resolve));
  servers.push(server);
  const address = server.address();
  return { server, taken: typeof address === "object" ? (address?.port ?? 0) : 0 };
}

const echoServer = `const socket = require("node:dgram").createSocket("udp4");
socket.on("message", (data, { port, address }) => socket.send(data, port, address));
socket.bind(5353);`;

/** Starts a UDP server in the network namespace of the set, because BusyBox has none. */
async function startEchoServer({ setId }: LocalSetSpec): Promise<void> {
  const { State } = await docker.getContainer(`berth-${setId}-infra`).inspect();
  const target = `--net=/proc/${State.Pid}/ns/net`;
  children.push(spawn("/usr/bin/nsenter", [target, process.execPath, "-e", echoServer]));
}

/** Ports that no program has now. */
async function freePorts(count: number): Promise<number[]> {
  const found = [];
  for (let each = 0; each < count; each++) found.push(await occupy());
  for (const { server } of found) await close(server);
  servers.splice(0);
  return found.map(({ taken }) => taken);
}

async function read(hostPort: number): Promise<string> {
  const response = await fetch(`http://${hostAddress}:${hostPort}/index.html`);
  return (await response.text()).trim();
}

async function echo(hostPort: number, text: string): Promise<string> {
  const socket = createSocket("udp4");
  try {
    return await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no answer")), 500);
      socket.on("error", reject);
      socket.on("message", (data) => {
        clearTimeout(timer);
        resolve(data.toString());
      });
      socket.send(text, hostPort, hostAddress);
    });
  } finally {
    socket.close();
  }
}

it("clients reach published ports at the host's address, even after a restart of the set", async () => {
  const [tcp = 0, udp = 0, other = 0] = await freePorts(3);
  const set = publishing([
    { protocol: "tcp", port: 8080, hostPort: tcp },
    { protocol: "udp", port: 5353, hostPort: udp },
  ]);
  await start(set);
  expect(await waitUntil("it answers", () => read(tcp))).toBe("served");
  await startEchoServer(set);
  expect(await waitUntil("it echoes", () => echo(udp, "hello"))).toBe("hello");
  const infra = docker.getContainer(`berth-${set.setId}-infra`);
  const { Id: infraId } = await infra.inspect();
  await infra.kill();
  await start(set);
  expect(await waitUntil("it answers again", () => read(tcp))).toBe("served");
  expect((await infra.inspect()).Id).toBe(infraId);
  // Another host port needs another container.
  const moved = { ...set, hostPorts: [{ protocol: "tcp" as const, port: 8080, hostPort: other }] };
  await start(moved);
  expect(await waitUntil("it answers elsewhere", () => read(other))).toBe("served");
  await expect(read(tcp)).rejects.toThrow();
  expect((await infra.inspect()).Id).not.toBe(infraId);
});

it("a host port of another program is a temporary failure that names it", async () => {
  const { server, taken } = await occupy();
  const set = publishing([{ protocol: "tcp", port: 8080, hostPort: taken }]);
  await expect(start(set)).rejects.toMatchObject({
    code: "host-port-taken",
    temporary: true,
    phase: "prepare",
    message: expect.stringContaining(`${taken}/tcp`),
  });
  await close(server);
  servers.splice(0);
  await start(set);
  expect(await waitUntil("it answers", () => read(taken))).toBe("served");
});

it("a set without published ports binds none", async () => {
  const set = localSet();
  await start(set);
  const { HostConfig, Config } = await docker.getContainer(`berth-${set.setId}-infra`).inspect();
  expect(HostConfig.PortBindings ?? {}).toEqual({});
  expect(Config).not.toHaveProperty("ExposedPorts");
});
