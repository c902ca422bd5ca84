import type Docker from "dockerode";
import type { Log } from "../../lib/log.ts";
import type { FairLimit } from "../../lib/async/fair-limit.ts";
import type { CgroupManager, SetCgroups } from "../cgroups/set-cgroups.ts";
import type { SetVolumes } from "../volumes/set-volumes.ts";
import type { ContainerDetailsCache } from "./container-details.ts";
import type { ContainerIndex } from "./container-index.ts";
import type { PullImage } from "./pull-image.ts";

/** Shared by the steps of the Docker adapter. */
export interface DockerContext {
  docker: Docker;
  hostId: string;
  log: Log;
  /** Facts about the machine and the daemon. A failed query is repeated at the next call. */
  environment(): Promise<DockerEnvironment>;
  /** Queries the facts again at the next call, because another daemon may have replaced it. */
  forgetEnvironment(): void;
  /** The reference of the infra image, which the daemon had at the first call. */
  infraImage(): Promise<string>;
  pullImage: PullImage;
  details: ContainerDetailsCache;
  index: ContainerIndex;
  /** Undefined on a host without volumes. */
  volumes: SetVolumes | undefined;
  /** Its keys are tenants. */
  startLimit: FairLimit;
  /** Recreates the infra image if the daemon has lost it, and returns its reference. */
  restoreInfraImage(): Promise<string>;
}

export interface DockerEnvironment {
  /** True if this machine may give a container all capabilities. */
  canPrivilege: boolean;
  /** Docker has an init that can be process 1 of containers. */
  hasInit: boolean;
  cgroups: SetCgroups;
  cgroupManager: CgroupManager;
  /**
   * Device numbers of Docker's disk; undefined if it is not a block device, or if the agent cannot
   * see it.
   */
  dockerDisk: string | undefined;
}
