import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { CgroupPort } from "../ports/cgroup-port.ts";
import type { PreviousHostsPort } from "../ports/previous-hosts-port.ts";
import type { SetPort } from "../ports/set-port.ts";

/** Sets that are removed concurrently: most of the time a removal waits for containers to stop. */
const removalsMax = 8;

/** The sets, volumes and cgroups that a deleted host left on this machine. */
export interface PreviousHost {
  sets: Pick<SetPort, "observe" | "remove">;
  /** Transfers its trashed volumes to this host. */
  adoptVolumes(signal: AbortSignal): Promise<void>;
  cgroups: Pick<CgroupPort, "removeHost">;
}

/**
 * Removes the sets of a deleted host, adopts their volumes, and removes the empty cgroup of the
 * host.
 *
 * @param open opens what the host left, with the same ports that it had
 */
export function createPreviousHosts(
  open: (previousHostId: string) => Promise<PreviousHost>,
  log: Log,
): PreviousHostsPort {
  return {
    async remove(previousHostId, signal) {
      const previousLog = log.child({ previousHostId });
      const previous = await open(previousHostId);
      // A removal does not need the observation, so a hung container delays no other set.
      const unseen: string[] = [];
      const observed = await previous.sets.observe(signal, (setId, error) => {
        unseen.push(setId);
        previousLog.warn({ err: error, setId }, "removing a set that cannot be observed");
      });
      const setIds = [...observed.map(({ setId }) => setId), ...unseen];
      const limit = createConcurrencyLimit(removalsMax);
      const results = await Promise.allSettled(
        setIds.map((setId) => limit(() => previous.sets.remove(setId, signal))),
      );
      const failed = results.find((result) => result.status === "rejected");
      if (failed) throw failed.reason;
      if (setIds.length > 0)
        previousLog.info({ sets: setIds.length }, "removed the sets of a deleted host");
      await previous.adoptVolumes(signal);
      await previous.cgroups.removeHost(signal);
    },
  };
}
