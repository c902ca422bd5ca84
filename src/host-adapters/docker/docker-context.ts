import type Docker from "dockerode";
import type { DaemonFeatures } from "../../agent/ports/daemon-port.ts";
import type { FairLimit } from "../../lib/async/fair-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { ContainerDetailsCache } from "./container-details.ts";
import type { ContainerIndex } from "./container-index.ts";

/** Shared by the calls that concern containers. */
export interface DockerContext {
  docker: Docker;
  hostId: string;
  log: Log;
  facts(): Promise<DaemonFeatures>;
  /** Queries the facts again at the next call, because another daemon may have replaced it. */
  forgetFacts(): void;
  /** Whether the host has a name server for sets of networks. */
  hasNames(signal: AbortSignal): Promise<boolean>;
  /** The processors on which containers run. Undefined for all. */
  cpus: readonly number[] | undefined;
  details: ContainerDetailsCache;
  index: ContainerIndex;
  /** Its keys are tenants. */
  startLimit: FairLimit;
}
