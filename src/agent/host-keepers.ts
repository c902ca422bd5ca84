import type { Log } from "../lib/log.ts";
import type { AgentLimits } from "./agent-limits.ts";
import type { Clock } from "./clock.ts";
import { DiskKeeper, type ImageCollection } from "./disk-keeper.ts";
import { DockerMonitor } from "./docker-monitor.ts";
import type { DiskPort } from "./ports/disk-port.ts";
import type { SetPort } from "./ports/set-port.ts";
import type { VolumePort } from "./ports/volume-port.ts";
import { VolumeKeeper } from "./volume-keeper.ts";

export interface HostKeepersOptions {
  port: SetPort;
  /** Without it the host has no volumes to look after. */
  volumes?: VolumePort | undefined;
  /** Without it nobody looks after Docker's disk. */
  disk?: { port: DiskPort; collection: ImageCollection } | undefined;
  clock: Clock;
  log: Log;
  limits: AgentLimits;
  /** There is something new to report. */
  onNews: () => void;
  /** The daemon answers again after it was unreachable. */
  onAvailable: () => void;
  /** What containers have written to their root file systems, by Docker id. */
  onRootfsMeasured: (usedBytes: ReadonlyMap<string, number>) => void;
  neededImages: () => ReadonlySet<string>;
}

/** What an agent looks after beside its sets: the daemon, its disk, and the volumes. */
export class HostKeepers {
  readonly monitor: DockerMonitor;
  readonly volumes: VolumeKeeper | undefined;
  readonly disk: DiskKeeper | undefined;

  constructor(options: HostKeepersOptions) {
    const { port, volumes, disk, clock, log, limits, onNews, onAvailable } = options;
    this.monitor = new DockerMonitor({ port, clock, log, limits, onChange: onNews, onAvailable });
    this.volumes =
      volumes &&
      new VolumeKeeper({
        port: volumes,
        clock,
        log,
        intervalMs: limits.volumesIntervalMs,
        onNews,
      });
    this.disk =
      disk &&
      new DiskKeeper({
        ...disk,
        clock,
        log,
        intervalMs: limits.diskIntervalMs,
        unusedMsMin: limits.imageUnusedMsMin,
        neededImages: options.neededImages,
        onUse: ({ rootfsBytes }) => options.onRootfsMeasured(rootfsBytes),
      });
  }

  /** Until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.monitor.run(signal),
      this.volumes?.run(signal),
      this.disk?.run(signal),
    ]);
  }
}
