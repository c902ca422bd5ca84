import type Docker from "dockerode";
import { createPreviousHosts } from "../../agent/engine/previous-hosts.ts";
import { createSetEngine } from "../../agent/engine/set-engine.ts";
import type { PreviousHostsPort } from "../../agent/ports/previous-hosts-port.ts";
import type { AgentSettings } from "../../config/host-agent.ts";
import { adoptVolumes } from "../../host-adapters/volumes/adopt-volumes.ts";
import type { Log } from "../../lib/log.ts";
import { openHostVolumes } from "./host-volumes.ts";
import { composeEnginePorts } from "./set-engine.ts";

/** Composes the removal of deleted hosts of this machine. */
export function composePreviousHosts(
  settings: AgentSettings,
  { docker, hostId, log }: { docker: Docker; hostId: string; log: Log },
): PreviousHostsPort {
  return createPreviousHosts(async (previousHostId) => {
    const previousLog = log.child({ previousHostId });
    const previous = { hostId: previousHostId, log: previousLog };
    const volumes = await openHostVolumes(settings, previous);
    const ports = composeEnginePorts({
      ...previous,
      docker,
      infraImage: settings.BERTH_INFRA_IMAGE,
      busyboxPath: settings.BERTH_BUSYBOX_PATH,
      cgroupRoot: settings.BERTH_CGROUP_ROOT,
      volumes: volumes?.port,
    });
    return {
      sets: createSetEngine(ports),
      cgroups: ports.cgroups,
      async adoptVolumes(signal) {
        if (volumes) await adoptVolumes(volumes.store, { hostId, log: previousLog }, signal);
      },
    };
  }, log);
}
