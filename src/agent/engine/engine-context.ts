import type { Log } from "../../lib/log.ts";
import type { CgroupPort } from "../ports/cgroup-port.ts";
import type { ContainerPort } from "../ports/container-port.ts";
import type { DaemonPort } from "../ports/daemon-port.ts";
import type { ImagePort } from "../ports/image-port.ts";
import type { NetworkPort } from "../ports/network-port.ts";
import type { SetVolumes } from "../ports/set-volumes.ts";

/** Shared by the steps of the set engine. */
export interface EngineContext {
  containers: ContainerPort;
  images: ImagePort;
  cgroups: CgroupPort;
  daemon: DaemonPort;
  network: NetworkPort;
  /** Undefined on a host without volumes. */
  volumes: SetVolumes | undefined;
  log: Log;
}
