import type Docker from "dockerode";
import type { Log } from "../../../lib/log.ts";
import type { SetCgroups } from "../cgroup/set-cgroups.ts";
import type { ConcurrencyLimit } from "../../../lib/async/concurrency-limit.ts";
import type { SetVolumes } from "../volume/set-volumes.ts";
import type { ContainerDetailsCache } from "./container-details.ts";

/** What the steps of the Docker adapter share. */
export interface DockerContext {
  docker: Docker;
  hostId: string;
  log: Log;
  /** What had to be asked of the machine and the daemon first. Asked again after a failure. */
  environment(): Promise<DockerEnvironment>;
  /** Reference of the infra image, which was in the daemon when it was asked for first. */
  infraImage(): Promise<string>;
  details: ContainerDetailsCache;
  /** Undefined on a host without room for any. */
  volumes: SetVolumes | undefined;
  startLimit: ConcurrencyLimit;
  /** Makes the infra image again when the daemon has lost it; the reference. */
  restoreInfraImage(): Promise<string>;
}

export interface DockerEnvironment {
  /** Whether this machine may give a container all capabilities. */
  canPrivilege: boolean;
  cgroups: SetCgroups;
  /** Numbers of the disk that the daemon keeps containers on; undefined when that is no block device, or hidden from the agent. */
  dockerDisk: string | undefined;
}
