import { beforeEach, expect, it } from "vitest";
import { NameServerError, type NameServer, type NameTable } from "../ports/name-server.ts";
import type { NamedNetwork } from "./compile-names.ts";
import { HostNames } from "./host-names.ts";

const { signal } = new AbortController();
const network: NamedNetwork = {
  networkId: "net_1",
  tenantId: "tnt_1",
  name: "default",
  services: [],
  clientAddress: "198.19.0.7",
};

let facts: { isInstalled: boolean; hasServed: boolean; isUp: boolean; hangs?: boolean };
let applied: NameTable[];
let networks: readonly NamedNetwork[] | undefined;
let names: HostNames;

beforeEach(() => {
  facts = { isInstalled: true, hasServed: false, isUp: true };
  applied = [];
  networks = [network];
  const server: NameServer = {
    address: "198.19.255.255",
    isInstalled: async () => facts.isInstalled,
    hasServed: async () => facts.hasServed,
    apply: async (table) => {
      if (facts.hangs) await new Promise(() => undefined);
      if (!facts.isUp) throw new NameServerError("It does not answer.");
      applied.push(table);
      facts.hasServed = true;
    },
  };
  names = new HostNames(server, () => networks);
});

it("a host has names once its server has answered, and a failure after that has a reason", async () => {
  facts.isUp = false;
  await names.apply(signal);
  expect(names.status).toEqual({ state: "off", reason: "It does not answer." });
  facts.isUp = true;
  await names.apply(signal);
  expect(names.status).toEqual({ state: "up", reason: null });
  facts.isUp = false;
  await expect(names.apply(signal)).rejects.toThrow("It does not answer.");
  expect(names.status).toEqual({ state: "down", reason: "It does not answer." });
  facts.isInstalled = false;
  await names.apply(signal);
  expect(names.status).toEqual({ state: "off", reason: null });
});

it("a server of an earlier process is down, and not off, until the first run has ended", async () => {
  facts = { ...facts, hasServed: true, hangs: true };
  void names.apply(signal);
  await expect.poll(() => names.status.state).toBe("down");
});

it("applies the same table until the networks change, and the last one while they are unknown", async () => {
  await names.apply(signal);
  await names.apply(signal);
  networks = undefined;
  await names.apply(signal);
  expect(new Set(applied).size).toBe(1);
  expect(applied).toHaveLength(3);
  networks = [];
  await names.apply(signal);
  expect(applied.at(-1)).toEqual({ zones: [], clients: [] });
});

it("a host without a server has no names", async () => {
  names = new HostNames(undefined, () => networks);
  await names.apply(signal);
  expect(names.status).toEqual({ state: "off", reason: null });
});
