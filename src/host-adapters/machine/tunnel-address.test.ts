import { networkInterfaces } from "node:os";
import { expect, it } from "vitest";
import { findTunnelAddress } from "./tunnel-address.ts";

it("finds the address of the interface that reaches the API, and none for this machine", async () => {
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal }) => family === "IPv4" && !internal);
  if (own) expect(await findTunnelAddress(`http://${own.address}:80`)).toBe(own.address);
  expect(await findTunnelAddress("http://127.0.0.1:8080")).toBeNull();
  expect(await findTunnelAddress("https://[::1]")).toBeNull();
  expect(await findTunnelAddress("https://no-such-name.invalid")).toBeUndefined();
});
