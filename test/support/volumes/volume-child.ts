import { createVolumes } from "../../../src/host-adapters/volumes/volumes.ts";
import type { FileSystemType } from "../../../src/host-adapters/volumes/file-systems.ts";
import type { VolumeSpec } from "../../../src/agent/ports/volume-port.ts";
import { newId } from "../../../src/lib/ids.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { createKillableStore } from "./killable-store.ts";
import { openStore, type StoreOptions } from "./volume-stores.ts";

/** The work of a child process on volumes, its one argument as JSON (volume-process.ts). */
export interface VolumeWork {
  store: StoreOptions;
  root: string;
  fileSystem: FileSystemType;
  action: VolumeAction;
  /**
   * The process kills itself at this moment; each change of the store has a moment before it and
   * one after it.
   */
  killAtMoment?: number;
}

/**
 * `live`: until killed, it repeatedly grows, trashes and restores one volume, and creates and
 * purges others.
 */
export type VolumeAction =
  | { act: "ensure" | "live"; spec: VolumeSpec }
  | { act: "trash"; setId: string }
  | { act: "purge"; volumeId: string };

const { signal } = new AbortController();
const MiB = 2 ** 20;
const { store, root, fileSystem, action, killAtMoment } = JSON.parse(
  process.argv[2] ?? "",
) as VolumeWork;
let moments = 0;
const volumes = createVolumes({
  store: createKillableStore(openStore(store), () => {
    if (++moments === killAtMoment) process.kill(process.pid, "SIGKILL");
    return false;
  }),
  root,
  fileSystem,
  retentionMs: 3_600_000,
  purgesEarly: false,
  log: silentLog,
});
volumes.updateRetention({
  controlPlaneTimeMs: Date.parse("2100-01-01"),
  wantedVolumeIds: new Set(),
});
process.stdout.write("begun\n");
await act(action);

async function act(what: VolumeAction): Promise<void> {
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
