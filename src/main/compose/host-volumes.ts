import { mkdir, realpath, stat, statfs } from "node:fs/promises";
import path from "node:path";
import type { BlockStore } from "../../host-adapters/volumes/block-store.ts";
import { createLoopStore } from "../../host-adapters/volumes/loop-store.ts";
import { createLvmStore } from "../../host-adapters/volumes/lvm-store.ts";
import { areMountsVisible, refuseMounts } from "../../host-adapters/volumes/mount-visibility.ts";
import { createVolumes } from "../../host-adapters/volumes/volumes.ts";
import type { VolumePort } from "../../agent/ports/volume-port.ts";
import type { AgentSettings } from "../../config/host-agent.ts";
import type { Log } from "../../lib/log.ts";

const hourMs = 3_600_000;

export interface HostVolumes {
  port: VolumePort;
  store: BlockStore;
  /** The device of the image files, for `loop`. */
  device: number | undefined;
}

/** Opens this host's volumes by its settings; undefined without a backend. */
export async function openHostVolumes(
  settings: AgentSettings,
  { hostId, log }: { hostId: string; log: Log },
): Promise<HostVolumes | undefined> {
  const backend = settings.BERTH_VOLUME_BACKEND;
  if (backend === "none") return undefined;
  // The kernel lists mount points by their real paths.
  await mkdir(settings.BERTH_AGENT_DATA_DIR, { recursive: true, mode: 0o700 });
  const dataFolder = await realpath(path.resolve(settings.BERTH_AGENT_DATA_DIR));
  if (dataFolder.includes(":")) {
    throw new Error(
      `Docker cannot mount volumes from ${dataFolder}. Choose a BERTH_AGENT_DATA_DIR without a colon, or BERTH_VOLUME_BACKEND=none.`,
    );
  }
  const root = path.join(dataFolder, "volumes");
  const folder = path.join(dataFolder, "volume-images");
  const store =
    backend === "lvm"
      ? createLvmStore({ hostId, volumeGroup: settings.BERTH_VOLUME_GROUP })
      : createLoopStore({
          hostId,
          folder,
          idPath: `${folder}.id`,
          root,
          totalBytes: await computeDiskShare(folder, settings.BERTH_VOLUME_LOOP_PERCENT),
        });
  const volumes = createVolumes({
    store,
    root,
    fileSystem: settings.BERTH_VOLUME_FILE_SYSTEM,
    retentionMs: settings.BERTH_VOLUME_RETENTION_HOURS * hourMs,
    purgesEarly: settings.BERTH_VOLUME_PURGE_EARLY,
    log,
  });
  const isVisible = await areMountsVisible(root);
  if (!isVisible) log.error({ root }, "Docker does not see the volumes that the agent mounts");
  const port = isVisible ? volumes : refuseMounts(volumes);
  return { port, store, device: backend === "loop" ? (await stat(folder)).dev : undefined };
}

async function computeDiskShare(folder: string, percent: number): Promise<number> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { blocks, bsize } = await statfs(folder);
  return Math.floor((blocks * bsize * percent) / 100);
}
