import { expect, test } from "vitest";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";

const start = fleetPerTest();

function bodyOf(name: string, networks: readonly string[], publish?: true) {
  const { template, ...body } = serviceBody(name);
  const ports = [
    { name: "admin", protocol: "tcp" as const, port: 9_000 },
    { name: "http", protocol: "tcp" as const, port: 8_080, ...(publish ? { publish } : {}) },
  ];
  const named = networks.map((network) => ({ network }));
  return { ...body, template: { ...template, networks: named, ports } };
}

test("a template publishes no ports in networks without an IPv4 subnet", async () => {
  const f = await start();
  for (const [name, cidr] of [
    ["six", "fd00:6::/64"],
    ["other", "fd00:7::/64"],
    ["four", "10.1.0.0/24"],
  ] as const)
    await createNetwork(f.ctx, f.tenantId, createNetworkBody.parse({ name, subnets: [{ cidr }] }));
  const create = (...args: Parameters<typeof bodyOf>) =>
    createService(f.ctx, f.tenantId, bodyOf(...args));
  await expect(create("refused", ["six", "other"], true)).rejects.toMatchObject({
    code: "invalid-request",
    errors: [expect.objectContaining({ pointer: "/template/ports/1/publish" })],
    message: expect.stringContaining("no network of the template has an IPv4 subnet: six, other."),
  });
  await create("named", ["six"]);
  await create("both", ["six", "four"], true);
  // It exists from the first use on, and by default with an IPv4 subnet.
  await create("later", ["six", "default"], true);
});
