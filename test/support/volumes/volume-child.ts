import { createVolumes } from "../../../src/agent/adapters/volume/volumes.ts";
import type { FileSystemType } from "../../../src/agent/adapters/volume/file-systems.ts";
import type { VolumeSpec } from "../../../src/agent/ports/volume-port.ts";
import { newId } from "../../../src/lib/ids.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { mortalStore } from "../agent/mortal-store.ts";
import { openStore, type StoreOptions } from "./volume-stores.ts";

/** What a process of its own is to do with volumes before it dies: its one argument, as JSON (volume-process.ts). */
export interface VolumeWork {
  store: StoreOptions;
  root: string;
  fileSystem: FileSystemType;
  deed: VolumeDeed;
  /** It kills itself right before or right after a change of the store: at the so-many-th of these moments. */
  diesAt?: number;
}

/** `live`: over and over, until it is killed, one volume is grown, trashed and restored, and others are made and purged. */
export type VolumeDeed =
  | { act: "ensure" | "live"; spec: VolumeSpec }
  | { act: "trash"; setId: string }
  | { act: "purge"; volumeId: string };

const { signal } = new AbortController();
const MiB = 2 ** 20;
const { store, root, fileSystem, deed, diesAt } = JSON.parse(process.argv[2] ?? "") as VolumeWork;
let moments = 0;
const volumes = createVolumes({
  store: mortalStore(openStore(store), () => {
    if (++moments === diesAt) process.kill(process.pid, "SIGKILL");
    return false;
  }),
  root,
  fileSystem,
  retentionMs: 3_600_000,
  purgesEarly: false,
  log: silentLog,
});
volumes.heed({ atMs: Infinity, wantedVolumeIds: new Set() });
process.stdout.write("begun\n");
await act(deed);

async function act(what: VolumeDeed): Promise<void> {
  switch (what.act) {
    case "ensure":
      await volumes.ensure(what.spec, signal);
      return;
    case "trash":
      return volumes.trash(what.setId, signal);
    case "purge":
      await volumes.expire(what.volumeId, signal);
      return volumes.purge(what.volumeId, signal);
    case "live":
      return live(what.spec);
  }
}

async function live(holder: VolumeSpec): Promise<void> {
  let current = holder;
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
    await act({ act: "purge", volumeId: made.volumeId });
  }
}
