import { readlink } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { readContainerProcess } from "./container-process.ts";

const unprivilegedUid = 65_534;
const noPid = 2 ** 22 + 1;

describe("the process of a container", () => {
  it("has the same identity at each reading, and its network namespace", async () => {
    const first = await readContainerProcess(process.pid);
    expect(first).toEqual({
      id: expect.stringMatching(new RegExp(`^[0-9a-f-]{36}:${process.pid}:[0-9]+$`)),
      network: await readlink("/proc/self/ns/net"),
      interfaces: expect.stringMatching(/^lo(,|$)/),
    });
    expect(await readContainerProcess(process.pid)).toEqual(first);
    expect((await readContainerProcess(1))?.id).not.toBe(first?.id);
  });

  it("is unknown if it has ended or does not run", async () => {
    expect(await readContainerProcess(0)).toBeUndefined();
    expect(await readContainerProcess(noPid)).toBeUndefined();
  });

  it("has an identity even if the agent may not read its namespaces", async () => {
    const { seteuid, geteuid } = process;
    if (!seteuid || geteuid?.() !== 0) return; // only root can give up its rights
    seteuid(unprivilegedUid);
    try {
      expect(await readContainerProcess(1)).toEqual({
        id: expect.stringMatching(/:1:[0-9]+$/),
        network: undefined,
        interfaces: expect.stringMatching(/^lo(,|$)/),
      });
    } finally {
      seteuid(0);
    }
  });
});
