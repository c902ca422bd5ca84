import type Docker from "dockerode";
import type { SelfTestPort } from "../../agent/ports/self-test-port.ts";
import { createCgroups } from "../../host-adapters/cgroups/create-cgroups.ts";
import { createDockerDaemon } from "../../host-adapters/docker/docker-daemon.ts";
import { createDockerImages } from "../../host-adapters/docker/docker-images.ts";
import { createDockerSelfTest } from "../../host-adapters/docker/docker-self-test.ts";
import {
  checkFileSystemPrograms,
  type FileSystemType,
} from "../../host-adapters/volumes/file-systems.ts";
import { type Log, silentLog } from "../../lib/log.ts";

export interface SelfTestOptions {
  docker: Docker;
  hostId: string;
  log: Log;
  infraImage?: string | undefined;
  busyboxPath?: string;
  cgroupRoot?: string;
  /** The file system of volumes; undefined on a host without volumes. */
  fileSystem: FileSystemType | undefined;
  cleanupTimeoutMs?: number;
}

/**
 * Composes the self test of this machine. It asks the daemon again in each test, so it shares no
 * cached facts with the set engine.
 */
export function composeSelfTest(options: SelfTestOptions): SelfTestPort {
  const { docker, hostId, log, fileSystem, cleanupTimeoutMs } = options;
  // The set engine logs the same facts.
  const daemon = createDockerDaemon({ docker, log: silentLog });
  const cgroups = createCgroups({
    hostId,
    root: options.cgroupRoot ?? "/sys/fs/cgroup",
    manager: {
      find: async () => (await daemon.facts()).cgroupManager,
      known: () => daemon.knownFacts()?.cgroupManager,
    },
  });
  const { infraImage, busyboxPath = "/bin/busybox" } = options;
  const images = createDockerImages({ docker, log: silentLog, infraImage, busyboxPath });
  const ofDocker = createDockerSelfTest({
    docker,
    hostId,
    log,
    daemon,
    images,
    cgroups,
    cleanupTimeoutMs,
  });
  return {
    describeDocker: (signal) => ofDocker.describeDocker(signal),
    async run(signal) {
      if (fileSystem !== undefined) await checkFileSystemPrograms(fileSystem);
      await ofDocker.run(signal);
    },
  };
}
