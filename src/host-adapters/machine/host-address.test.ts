import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { createHostAddress } from "./host-address.ts";

const folder = mkdtempSync(path.join(tmpdir(), "berth-routes-"));
afterAll(() => rmSync(folder, { recursive: true }));
const files = { route: path.join(folder, "route"), ipv6Route: path.join(folder, "ipv6_route") };
const header =
  "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

function writeRoutes(...routes: [name: string, flags: string, metric: number][]): void {
  const lines = routes.map(
    ([name, flags, metric]) =>
      `${name}\t00000000\t010200C0\t${flags}\t0\t0\t${metric}\t00000000\t0\t0\t0`,
  );
  writeFileSync(
    files.route,
    `${header}lo\t0000007F\t0\t0001\t0\t0\t0\t000000FF\n${lines.join("\n")}\n`,
  );
}

const loopback = networkInterfaces()["lo"]?.find(({ family }) => family === "IPv4")?.address;

it("is the configured address, or that of the interface with the default route", () => {
  writeRoutes(["none0", "0003", 200], ["lo", "0003", 100]);
  expect(createHostAddress("192.0.2.7", files)()).toBe("192.0.2.7");
  expect(createHostAddress(undefined, files)()).toBe(loopback);
  writeRoutes(["lo", "0203", 100]); // an unreachable route
  expect(createHostAddress(undefined, files)()).toBeNull();
});

it("is an IPv6 address on a host without a default route of IPv4", () => {
  writeRoutes();
  const none = "0".repeat(32);
  writeFileSync(
    files.ipv6Route,
    `${none} 00 ${none} 00 ${none} 00000400 00000001 00000000 00000003 lo\n`,
  );
  expect(createHostAddress(undefined, files)()).toBe("::1");
  writeFileSync(files.ipv6Route, "");
});

it("stays while the route is absent, and follows another one", () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  try {
    writeRoutes(["lo", "0003", 0]);
    const find = createHostAddress(undefined, files);
    expect(find()).toBe(loopback);
    writeRoutes();
    vi.advanceTimersByTime(20_000);
    expect(find()).toBe(loopback);
  } finally {
    vi.useRealTimers();
  }
});
