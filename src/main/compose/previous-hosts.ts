import type Docker from "dockerode";
import { composeSetEngine } from "./set-engine.ts";
import { adoptVolumes } from "../../host-adapters/volumes/adopt-volumes.ts";
import type { PreviousHostsPort } from "../../agent/ports/previous-hosts-port.ts";
import type { AgentSettings } from "../../config/host-agent.ts";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { Log } from "../../lib/log.ts";
import { openHostVolumes } from "./host-volumes.ts";

/** Sets that are removed concurrently: most of the time a removal waits for containers to stop. */
const removalsMax = 8;

/** Removes what deleted hosts left on this machine, with the same ports that they had. */
export function createPreviousHosts(
  settings: AgentSettings,
  { docker, hostId, log }: { docker: Docker; hostId: string; log: Log },
): PreviousHostsPort {
  return {
    async remove(previousHostId, signal) {
      const previousLog = log.child({ previousHostId });
      const place = { hostId: previousHostId, log: previousLog };
      const volumes = await openHostVolumes(settings, place);
      const sets = composeSetEngine({
        ...place,
        docker,
        infraImage: settings.BERTH_INFRA_IMAGE,
        busyboxPath: settings.BERTH_BUSYBOX_PATH,
        cgroupRoot: settings.BERTH_CGROUP_ROOT,
        volumes: volumes?.port,
      });
      const limit = createConcurrencyLimit(removalsMax);
      // A removal does not need the observation, so a hung container delays no other set.
      const unseen: string[] = [];
      const observed = await sets.observe(signal, (setId, error) => {
        unseen.push(setId);
        previousLog.warn({ err: error, setId }, "removing a set that cannot be observed");
      });
      const setIds = [...observed.map(({ setId }) => setId), ...unseen];
      const results = await Promise.allSettled(
        setIds.map((setId) => limit(() => sets.remove(setId, signal))),
      );
      const failed = results.find((result) => result.status === "rejected");
      if (failed) throw failed.reason;
      if (setIds.length > 0)
        previousLog.info({ sets: setIds.length }, "removed the sets of a deleted host");
      if (volumes) await adoptVolumes(volumes.store, { hostId, log: previousLog }, signal);
    },
  };
}
