import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import {
  encodeAgentIdentity,
  parseAgentIdentity,
} from "../../contracts/agent-protocol/agent-identity.ts";
import { readAgentIdentity } from "./agent-identity.ts";

const machineId = "0123456789abcdef0123456789abcdef";
let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), "berth-machine-"));
  for (const folder of ["etc", "run", "proc/sys/kernel/random"])
    await mkdir(path.join(root, folder), { recursive: true });
  await writeFile(path.join(root, "proc/sys/kernel/random/boot_id"), "b2-c3\n");
  await writeFile(path.join(root, "etc/machine-id"), `${machineId}\n`);
});
afterEach(() => rm(root, { recursive: true }));

it("identifies this process and its boot, in a form that the protocol accepts", async () => {
  const [one, two] = [await readAgentIdentity(), await readAgentIdentity()];
  expect(two.bootId).toBe(one.bootId);
  expect(two.processId).not.toBe(one.processId);
  expect(two.startedMs).toBeGreaterThanOrEqual(one.startedMs);
  expect(parseAgentIdentity(encodeAgentIdentity(one))).toEqual({ ...one, isEnding: false });
});

it("has the same hash of the machine's id in each process, and not the id itself", async () => {
  const hash = (await readAgentIdentity(undefined, root)).machineId;
  expect(hash).toMatch(/^[0-9a-f]{32}$/);
  expect(hash).not.toBe(machineId);
  expect((await readAgentIdentity(undefined, root)).machineId).toBe(hash);
});

it.each(["run/machine-id", ".dockerenv", "run/.containerenv"])(
  "has no machine id where %s shows that it does not last",
  async (file) => {
    await writeFile(path.join(root, file), "");
    expect((await readAgentIdentity(undefined, root)).machineId).toBeUndefined();
  },
);

it.each(["", "uninitialized\n"])("has no machine id where the file contains %j", async (text) => {
  await writeFile(path.join(root, "etc/machine-id"), text);
  expect((await readAgentIdentity(undefined, root)).machineId).toBeUndefined();
});

it("trusts a file that the operator names, and rejects one without an id", async () => {
  await writeFile(path.join(root, ".dockerenv"), "");
  const file = path.join(root, "etc/machine-id");
  expect((await readAgentIdentity(file, root)).machineId).toMatch(/^[0-9a-f]{32}$/);
  await writeFile(file, "uninitialized\n");
  await expect(readAgentIdentity(file, root)).rejects.toThrow("has no machine id");
});
