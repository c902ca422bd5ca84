import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { silentLog } from "../../lib/log.ts";
import { ImageVolumes } from "./image-volumes.ts";

const { signal } = new AbortController();
let folder: string;
let du: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "berth-du-"));
  du = join(folder, "du");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A program that prints 4096 bytes for each path, and never ends for volumes of these numbers. */
async function writeDu(hanging: readonly number[]): Promise<void> {
  const patterns = hanging.map((number) => `*${toName(number)}*) exec sleep 60 ;;`).join("\n");
  const script = `#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift
for path in "$@"; do
  case "$path" in
  ${patterns}
  *) printf '4096\\t%s\\0' "$path" ;;
  esac
done
`;
  await writeFile(du, script, { mode: 0o755 });
}

const toName = (number: number) => number.toString(16).padStart(64, "0");
const container = (number: number) => ({
  Id: `container-${number}`,
  Mounts: [{ Type: "volume", Name: toName(number) }],
});
// Containers with one volume each.
const containers = Array.from({ length: 150 }, (_, number) => container(number));
const timeouts = { batchMs: 1_500, pathMs: 1_000, slowMs: 1_500 };

it("a volume that takes too long hides only its own size", async () => {
  await writeDu([7, 120]);
  const volumes = new ImageVolumes({ root: () => folder, log: silentLog, du, timeouts });
  const bytes = await volumes.measure(containers, signal);
  expect(bytes.size).toBe(148);
  expect(bytes.get("container-8")).toBe(4_096);
  // The next measurements have one slow volume each, so they are fast.
  const startedAtMs = performance.now();
  expect((await volumes.measure(containers, signal)).size).toBe(148);
  expect(performance.now() - startedAtMs).toBeLessThan(5_000);
});

it("a slow volume is measured alone in turn, and has its last size until then", async () => {
  await writeDu([7, 120]);
  const volumes = new ImageVolumes({ root: () => folder, log: silentLog, du, timeouts });
  await volumes.measure(containers, signal);
  await writeDu([]);
  expect((await volumes.measure(containers, signal)).size).toBe(149);
  expect((await volumes.measure(containers, signal)).size).toBe(150);
  await writeDu([7]);
  const bytes = await volumes.measure(containers, signal);
  expect(bytes.get("container-7")).toBe(4_096);
});
