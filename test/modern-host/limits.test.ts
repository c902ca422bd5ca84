import { expect, it } from "vitest";
import {
  readContainerLimits,
  readSliceLimits,
  removeService,
  startService,
} from "../support/modern-host/host-service.ts";

const MIB = 2 ** 20;

it("the slice of a set and the scopes of its containers have the limits of the template", async () => {
  const set = await startService("limits");
  expect(await readSliceLimits(set.id)).toMatchObject({
    cpuMax: "40000 100000",
    memoryMax: String(64 * MIB),
    memoryLow: String(32 * MIB),
    pidsMax: "8192",
  });
  expect(await readContainerLimits(set.id, "app")).toMatchObject({
    memoryMax: String(32 * MIB),
    pidsMax: "4096",
  });
  await removeService("limits");
});
