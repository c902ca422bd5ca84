import type { Log } from "../../lib/log.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import type { Clock } from "../base/clock.ts";
import { ImageGc, type ImageGcThresholds } from "./image-gc.ts";
import { DockerHealthMonitor } from "./docker-health.ts";
import { NetworkDriverHealth, type NetworkDriverHealthOptions } from "./network-driver-health.ts";
import type { DiskPort } from "../ports/disk-port.ts";
import type { SelfTestPort } from "../ports/self-test-port.ts";
import type { SetPort } from "../ports/set-port.ts";
import type { VolumePort } from "../ports/volume-port.ts";
import { Prefetches } from "./prefetches.ts";
import { type SelfTestMode, SelfTestMonitor } from "./self-test.ts";
import { VolumeGc } from "./volume-gc.ts";

export interface HousekeepingOptions {
  port: SetPort;
  /** Without it, the host has no volumes. */
  volumes?: VolumePort | undefined;
  /** Without it, the agent deletes no images. */
  disk?: { port: DiskPort; thresholds: ImageGcThresholds } | undefined;
  /** Without it, the agent does not test whether this machine can run a set. */
  selfTest?: { port: SelfTestPort; mode: SelfTestMode } | undefined;
  /** Without it, the host connects no sets to networks. */
  networkDriver?:
    | Pick<
        NetworkDriverHealthOptions,
        "port" | "hasAttachedSets" | "findTunnelAddress" | "onChange"
      >
    | undefined;
  clock: Clock;
  log: Log;
  limits: AgentLimits;
  /** Called when there is a change to report. */
  onChange: () => void;
  /** Called when the daemon answers again after it was unreachable. */
  onAvailable: () => void;
  /**
   * Called with the bytes that containers have written to their root file systems, by Docker id.
   */
  onRootfsMeasured: (usedBytes: ReadonlyMap<string, number>) => void;
  neededImages: () => ReadonlySet<string>;
}

/**
 * The agent's periodic work beside its sets: Docker's health, that of the network driver, self
 * tests, image garbage collection, and volume garbage collection.
 */
export class Housekeeping {
  readonly dockerHealth: DockerHealthMonitor;
  readonly volumes: VolumeGc | undefined;
  readonly disk: ImageGc | undefined;
  readonly selfTest: SelfTestMonitor | undefined;
  readonly networkDriver: NetworkDriverHealth | undefined;
  readonly prefetches: Prefetches;

  constructor(options: HousekeepingOptions) {
    const { port, volumes, disk, selfTest, clock, log, limits, onChange, onAvailable } = options;
    this.dockerHealth = new DockerHealthMonitor({
      port,
      clock,
      log,
      limits,
      onChange,
      onAvailable,
      onAnswer: () => this.selfTest?.checkSoon(),
    });
    this.prefetches = new Prefetches({ port, clock, log, onChange });
    this.selfTest =
      selfTest &&
      new SelfTestMonitor({
        ...selfTest,
        clock,
        log,
        limits,
        isDockerReachable: () => this.dockerHealth.health?.state !== "unreachable",
        onChange,
      });
    this.networkDriver =
      options.networkDriver &&
      new NetworkDriverHealth({ ...options.networkDriver, clock, log, limits });
    this.volumes =
      volumes &&
      new VolumeGc({
        port: volumes,
        clock,
        log,
        intervalMs: limits.volumesIntervalMs,
        onChange,
      });
    this.disk =
      disk &&
      new ImageGc({
        ...disk,
        clock,
        log,
        intervalMs: limits.diskIntervalMs,
        unusedMsMin: limits.imageUnusedMsMin,
        neededImages: () => new Set([...options.neededImages(), ...this.prefetches.needed]),
        onUsage: ({ rootfsBytes }) => options.onRootfsMeasured(rootfsBytes),
      });
  }

  /** Runs until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.dockerHealth.run(signal),
      this.volumes?.run(signal),
      this.disk?.run(signal),
      this.selfTest?.run(signal),
      this.networkDriver?.run(signal),
    ]);
  }
}
