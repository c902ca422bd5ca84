import { expect, it } from "vitest";
import { silentLog } from "../../lib/log.ts";
import { createDockerAnswers } from "./answer-docker-call.ts";
import { defineCall } from "./docker-call.ts";
import { networkSchema } from "./docker-bodies.ts";
import { ipamCalls } from "./ipam-calls.ts";

const body = JSON.stringify({ NetworkID: "a".repeat(64) });
let lost = 0;
const onLostCall = () => {
  lost += 1;
};

it("a call that hangs answers within its deadline, and its work is aborted", async () => {
  let aborted: AbortSignal | undefined;
  const hangs = defineCall(networkSchema, (_body, signal) => {
    aborted = signal;
    return new Promise<object>(() => undefined);
  });
  const answer = createDockerAnswers(
    { "NetworkDriver.Join": hangs },
    { log: silentLog, onLostCall, timeoutMs: 50 },
  );
  expect(await answer("/NetworkDriver.Join", body)).toEqual({
    Err: "The call NetworkDriver.Join did not end within 0.05 s. Check that Open vSwitch answers (ovs-vsctl show), and try again.",
  });
  expect(aborted?.aborted).toBe(true);
});

it("an unexpected error reveals nothing", async () => {
  const fails = defineCall(networkSchema, async () => {
    throw new TypeError("secret of the host");
  });
  const answer = createDockerAnswers(
    { "NetworkDriver.Join": fails },
    { log: silentLog, onLostCall },
  );
  expect(await answer("/NetworkDriver.Join", body)).toEqual({
    Err: "Berth's network driver failed. See the log of berth-network-driver.",
  });
});

it("a call without its content is a lost call, which causes a convergence", async () => {
  const never = defineCall(networkSchema, async () => ({}));
  const answer = createDockerAnswers(
    { "NetworkDriver.Leave": never },
    { log: silentLog, onLostCall },
  );
  lost = 0;
  const { Err } = (await answer("/NetworkDriver.Leave", "")) as { Err: string };
  expect(Err).toContain("Docker repeated a call without its content");
  expect(lost).toBe(1);
});

it("addresses are checked against the subnet of their pool, and errors are in `Error`", async () => {
  const answer = createDockerAnswers(ipamCalls, { log: silentLog, onLostCall });
  const call = (method: string, of: object) =>
    answer(`/IpamDriver.${method}`, JSON.stringify(of)) as Promise<Record<string, unknown>>;
  for (const [subnet, inside, outside] of [
    ["10.64.0.0/16", "10.64.255.9", "10.65.0.9"],
    ["fd00:64::/64", "fd00:64::9", "fd00:65::9"],
  ]) {
    const { PoolID, Pool } = await call("RequestPool", { Pool: subnet, Options: null });
    expect(Pool).toBe(subnet);
    const length = subnet?.split("/").at(1);
    expect(await call("RequestAddress", { PoolID, Address: inside })).toEqual({
      Address: `${inside}/${length}`,
      Data: {},
    });
    expect(await call("RequestAddress", { PoolID, Address: outside })).toEqual({
      Error: `${outside} is not in the subnet ${subnet}.`,
    });
    expect((await call("RequestAddress", { PoolID, Address: "" }))["Error"]).toContain(
      "The driver chooses no address.",
    );
  }
  expect((await call("RequestPool", { Pool: "10.64.0.7/16" }))["Error"]).toContain(
    "expected a subnet such as 10.64.0.0/16",
  );
  expect(await call("RequestAddress", { PoolID: "foreign", Address: "10.64.0.9" })).toEqual({
    Error: "10.64.0.9 is not in the subnet .",
  });
  expect(await call("ReleaseAddress", {})).toEqual({});
});
