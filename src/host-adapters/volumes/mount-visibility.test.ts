import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it } from "vitest";
import { areMountsVisible, isPropagated } from "./mount-visibility.ts";

const root = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw";
const ofUnit = "122 101 254:0 / / rw,relatime shared:201 master:1 - ext4 /dev/vda rw";
const folder = "/var/lib/berth-agent";

it.each([
  ["the root of the machine", [root], true],
  ["the root of a unit with private mounts", [ofUnit], false],
  ["a private root, as in a container", ["22 1 0:5 / / rw - overlay none rw"], false],
  [
    "a folder that a container shares with the machine",
    [
      "22 1 0:5 / / rw - overlay none rw",
      `30 22 254:0 ${folder} ${folder} rw shared:1 - ext4 x rw`,
    ],
    true,
  ],
  [
    "a folder that a container receives only",
    [root, `30 22 254:0 ${folder} ${folder} rw master:1 - ext4 x rw`],
    false,
  ],
  ["a folder beside a mount", [root, `30 22 0:9 /x ${folder}-other rw - tmpfs x rw`], true],
])("mounts below %s propagate to the machine: %s", (_name, lines, expected) => {
  expect(isPropagated(lines.join("\n"), folder)).toBe(expected);
});

it("a process with the mounts of process 1 needs no propagation", async () => {
  const procRoot = await mkdtemp(path.join(tmpdir(), "berth-mounts-"));
  try {
    for (const id of ["self", "1"]) await mkdir(path.join(procRoot, id, "ns"), { recursive: true });
    await writeFile(path.join(procRoot, "self/mountinfo"), ofUnit);
    await symlink("mnt:[1]", path.join(procRoot, "1/ns/mnt"));
    await symlink("mnt:[1]", path.join(procRoot, "self/ns/mnt"));
    expect(await areMountsVisible(folder, { procRoot })).toBe(true);
    await rm(path.join(procRoot, "self/ns/mnt"));
    await symlink("mnt:[2]", path.join(procRoot, "self/ns/mnt"));
    expect(await areMountsVisible(folder, { procRoot })).toBe(false);
  } finally {
    await rm(procRoot, { recursive: true });
  }
});
