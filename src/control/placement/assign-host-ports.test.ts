import fc from "fast-check";
import { expect, it } from "vitest";
import type { TemplatePort } from "../../contracts/api/template-ports.ts";
import { assignHostPorts, type HostPortNeed } from "./assign-host-ports.ts";

const range = { first: 20_000, last: 20_009 };

function published(name: string, hostPort?: number, protocol: "tcp" | "udp" = "tcp"): TemplatePort {
  return { name, port: 80, protocol, publish: hostPort === undefined ? true : { hostPort } };
}

function needOf(setId: string, ports: TemplatePort[], more: Partial<HostPortNeed> = {}) {
  return { setId, hostId: "host_a", generation: 1, ports, ...more };
}

it("each set gets ports of the range that no other set of the host has", () => {
  const need = fc.record({
    setId: fc.uuid(),
    hostId: fc.constantFrom("host_a", "host_b"),
    generation: fc.nat(3),
    ports: fc
      .uniqueArray(fc.tuple(fc.constantFrom(undefined, 80, 20_003), fc.boolean()), { maxLength: 4 })
      .map((pairs) =>
        pairs.map(([fixed, isTcp], at) => published(`p${at}`, fixed, isTcp ? "tcp" : "udp")),
      ),
  });
  const used = fc.uniqueArray(fc.integer({ min: 19_999, max: 20_010 }), { maxLength: 11 });
  fc.assert(
    fc.property(fc.array(need, { maxLength: 12 }), used, (needs, ports) => {
      const before = { hostId: "host_a", protocol: "tcp" as const, ports };
      const chosen = assignHostPorts(needs, [before], range);
      const keys = chosen.map(({ hostId, protocol, port }) => `${hostId} ${protocol} ${port}`);
      expect(new Set(keys).size).toBe(keys.length);
      for (const { setId, ports } of needs)
        expect([0, ports.length]).toContain(chosen.filter((each) => each.setId === setId).length);
      for (const { hostId, protocol, port } of chosen) {
        if (hostId === "host_a" && protocol === "tcp") expect(ports).not.toContain(port);
        if (port !== 80) expect(port >= range.first && port <= range.last).toBe(true);
      }
      // A set without ports could have had some, unless a fixed one or the range was used up.
      for (const { setId, hostId, ports } of needs) {
        if (chosen.some((each) => each.setId === setId) || ports.length === 0) continue;
        expect(ports.some(({ publish }) => publish !== true) || hostId === "host_a").toBe(true);
      }
    }),
  );
});

it("a set whose fixed port is taken gets none, and leaves its other ports to the next", () => {
  const used = [{ hostId: "host_a", protocol: "tcp" as const, ports: [443] }];
  const small = { first: 20_000, last: 20_000 };
  const chosen = assignHostPorts(
    [
      needOf("set_a", [published("http", 80), published("https", 443)]),
      needOf("set_b", [published("any"), published("http", 80)]),
      needOf("set_c", [published("any")]),
    ],
    used,
    small,
  );
  expect(chosen.map(({ setId, name, port }) => `${setId} ${name} ${port}`)).toEqual([
    "set_b http 80",
    "set_b any 20000",
  ]);
});

it("protocols and hosts have ports of their own", () => {
  const chosen = assignHostPorts(
    [
      needOf("set_a", [published("http", 80)]),
      needOf("set_b", [published("quic", 80, "udp")]),
      needOf("set_c", [published("http", 80)], { hostId: "host_b" }),
    ],
    [],
    range,
  );
  expect(chosen).toHaveLength(3);
});

it("a set that is placed again begins its search elsewhere", () => {
  const wide = { first: 20_000, last: 32_767 };
  const ports = [1, 2, 3, 4].map(
    (generation) =>
      assignHostPorts([needOf("set_a", [published("any")], { generation })], [], wide)[0]?.port,
  );
  expect(new Set(ports).size).toBe(4);
});
