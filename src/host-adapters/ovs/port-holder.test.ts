import { createServer } from "node:net";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, it } from "vitest";
import { createPortHolder, keyOfPort } from "./port-holder.ts";

/** A port of each protocol that nothing uses at the moment. */
async function findPorts() {
  const server = createServer().listen(0, "0.0.0.0");
  await once(server, "listening");
  const socket = createSocket("udp4").bind(0);
  await once(socket, "listening");
  const address = server.address();
  const tcp = typeof address === "object" && address ? address.port : 0;
  const udp = socket.address().port;
  await new Promise((resolve) => server.close(resolve));
  await new Promise<void>((resolve) => socket.close(resolve));
  return [
    { protocol: "tcp", hostPort: tcp },
    { protocol: "udp", hostPort: udp },
  ] as const;
}

it("no other program gets a held port until it is released", async () => {
  const ports = await findPorts();
  const [holder, other] = [createPortHolder(), createPortHolder()];
  expect(await holder.hold(ports)).toEqual(new Set());
  expect(await other.hold(ports)).toEqual(new Set(ports.map(keyOfPort)));
  for (const port of ports)
    expect([await holder.isUnused(port), await other.isUnused(port)]).toEqual([true, false]);
  // Not even at one address.
  const server = createServer().listen(ports[0].hostPort, "127.0.0.1");
  const socket = createSocket("udp4").bind(ports[1].hostPort, "127.0.0.1");
  const errors = await Promise.all([once(server, "error"), once(socket, "error")]);
  expect(errors.flat()).toMatchObject([{ code: "EADDRINUSE" }, { code: "EADDRINUSE" }]);
  // The next call of the other holder gets them, as a restarted driver does.
  await holder.hold([]);
  expect(await other.hold(ports)).toEqual(new Set());
  await other.hold([]);
});

it("a check of a port takes it from no call that holds it, and no such call fails the check", async () => {
  const ports = await findPorts();
  const holder = createPortHolder();
  for (const isFirst of [true, false]) {
    const checks: Promise<boolean>[] = [];
    if (isFirst) checks.push(...ports.map((port) => holder.isUnused(port)));
    const held = holder.hold(ports);
    if (!isFirst) checks.push(...ports.map((port) => holder.isUnused(port)));
    expect([await held, await Promise.all(checks)]).toEqual([new Set(), [true, true]]);
    await holder.hold([]);
  }
});

it("a connection of the host itself to a held port is reset", async () => {
  const [port] = await findPorts();
  const holder = createPortHolder();
  await holder.hold([port]);
  const { connect } = await import("node:net");
  const socket = connect(port.hostPort, "127.0.0.1");
  await expect(once(socket, "close")).rejects.toMatchObject({ code: "ECONNRESET" });
  await holder.hold([]);
});

it("holds a bounded number of ports", async () => {
  const ports = await findPorts();
  const [holder, other] = [createPortHolder(1), createPortHolder()];
  expect(await holder.hold(ports)).toEqual(new Set());
  expect(await other.hold(ports)).toEqual(new Set([keyOfPort(ports[0])]));
  for (const each of [holder, other]) await each.hold([]);
});
