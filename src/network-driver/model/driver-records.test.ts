import { expect, it } from "vitest";
import { DOCKER_NETWORKS_MAX, ENDPOINTS_MAX } from "./driver-records.ts";
import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import { NETWORKS_PER_SET_MAX } from "../../contracts/api/template-networks.ts";
import { newId } from "../../lib/ids.ts";
import { networkStateSchema } from "../../contracts/network-driver/network-state.ts";
import { networkBasics } from "../../../test/support/network/host-network.ts";

/** The most that the planner can place on a host. */
const interfacesMax = SETS_PER_HOST_MAX * NETWORKS_PER_SET_MAX;

it("accepts the networks of any host that the planner can fill", () => {
  const networks = Array.from({ length: interfacesMax }, (_, index) => ({
    networkId: newId("net"),
    vni: 4_097 + index,
    ...networkBasics,
    gateways: ["10.64.0.1", "fd00::1"],
    remotePorts: [],
  }));
  const state = { source: "agent", version: 1, tunnelAddress: "192.0.2.1", networks };
  expect(networkStateSchema.parse(state)).toEqual(state);
});

it("leaves the driver records for the interfaces of such a host, and for those of unknown sets", () => {
  expect(ENDPOINTS_MAX).toBeGreaterThanOrEqual(2 * interfacesMax);
  expect(DOCKER_NETWORKS_MAX).toBeGreaterThanOrEqual(2 * interfacesMax);
});
