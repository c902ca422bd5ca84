import { expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { networkBasics } from "../../../test/support/network/host-network.ts";
import {
  type HostNetwork,
  SERVICES_PER_HOST_MAX,
} from "../../contracts/network-driver/network-state.ts";
import { RecentServiceAddresses } from "./recent-service-addresses.ts";

const networkId = "net_01jd0000000000000000000000";
const idOf = (number: number) => `svc_${String(number).padStart(26, "0")}` as const;

function networkOf(...services: [number: number, ...addresses: string[]][]): HostNetwork {
  return {
    ...networkBasics,
    networkId,
    vni: 1,
    gateways: [],
    remotePorts: [],
    services: services.map(([number, ...addresses]) => ({
      serviceId: idOf(number),
      name: `s${number}`,
      addresses,
      members: [],
      ports: [],
    })),
  };
}

const minutes = 60_000;

it("lists the addresses of services now and in the last ten minutes", async () => {
  const clock = new VirtualClock();
  const recent = new RecentServiceAddresses(clock);
  const listed = () => recent.list().map(({ addresses }) => addresses.join());
  recent.note([networkOf([1, "10.0.0.1", "fd00::1"], [2, "10.0.0.2"], [3])]);
  expect(recent.list()).toEqual([
    { serviceId: idOf(1), networkId, addresses: ["10.0.0.1", "fd00::1"] },
    { serviceId: idOf(2), networkId, addresses: ["10.0.0.2"] },
  ]);
  // The restored database lacks the first one, and the address of the second.
  recent.note([networkOf([2])]);
  expect(listed()).toEqual(["10.0.0.1,fd00::1", "10.0.0.2"]);
  await clock.pass(5 * minutes);
  recent.note([networkOf([2, "10.0.0.2"])]);
  expect(listed()).toEqual(["10.0.0.1,fd00::1", "10.0.0.2"]);
  await clock.pass(5 * minutes);
  expect(listed()).toEqual(["10.0.0.2"]);
  recent.note([]);
  await clock.pass(10 * minutes);
  expect(listed()).toEqual([]);
});

it("remembers a bounded number of addresses, the newest ones", () => {
  const recent = new RecentServiceAddresses(new VirtualClock());
  for (let number = 0; number < SERVICES_PER_HOST_MAX + 10; number++)
    recent.note([networkOf([number, "10.0.0.1"])]);
  const listed = recent.list();
  expect(listed).toHaveLength(SERVICES_PER_HOST_MAX);
  expect(listed[0]?.serviceId).toBe(idOf(9));
});
