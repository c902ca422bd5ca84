import {
  createLoopStore,
  type LoopStoreOptions,
} from "../../src/agent/adapters/volume/loop-store.ts";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import type { VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";

/**
 * `node --import tsx volume-child.ts WORK`: leads volumes through their lives, over and over, until it is killed. One is grown,
 * trashed and restored; others are made, trashed and purged.
 */
export interface VolumeWork {
  store: LoopStoreOptions;
  root: string;
  /** Who has the first volume now. */
  holder: VolumeSpec;
}

const { signal } = new AbortController();
const MiB = 2 ** 20;
const { store, root, holder } = JSON.parse(process.argv[2] ?? "") as VolumeWork;
const volumes = createVolumes({
  store: createLoopStore(store),
  root,
  fileSystem: "xfs",
  retentionMs: 3_600_000,
  purgesEarly: false,
  log: silentLog,
});
volumes.heed({ atMs: Infinity, wantedVolumeIds: new Set() });
let current = holder;
process.stdout.write("begun\n");
for (let round = 0; round < 1_000; round++) {
  const { volumeId } = await volumes.ensure(current, signal);
  current = { ...current, sizeBytes: current.sizeBytes + 16 * MiB };
  await volumes.ensure(current, signal);
  await volumes.trash(current.setId, signal);
  const { restoreFrom: _, ...spec } = { ...current, setId: newId("set") };
  current = { ...spec, restoreFrom: volumeId };
  await volumes.ensure(current, signal);
  const passing = { ...spec, setId: newId("set"), service: "passing", sizeBytes: 32 * MiB };
  const made = await volumes.ensure(passing, signal);
  await volumes.trash(passing.setId, signal);
  await volumes.expire(made.volumeId, signal);
  await volumes.purge(made.volumeId, signal);
}
