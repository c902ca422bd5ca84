import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import type { Log } from "../../lib/log.ts";
import type { Clock } from "../base/clock.ts";
import type { PersistedHistory } from "../ports/state-store.ts";
import type { SetPort } from "../ports/set-port.ts";
import type { WorkLimits } from "../base/work-limits.ts";

/** Shared by the runners of a host. */
export interface SetRunnerContext {
  port: SetPort;
  clock: Clock;
  /** In [0, 1). */
  random: () => number;
  log: Log;
  limits: WorkLimits;
  /**
   * True if the set may start while it is stopped. False until the first answer of the control
   * plane, and for an unlisted set until an answer says that it is not deleted. While this machine
   * was down, another host may have started its replacement (I3).
   */
  mayStart: (setId: string) => boolean;
  /** False for a set that the last complete answer omits. */
  isListed: (setId: string) => boolean;
  /** True if the host was deleted, so that no set may run (I3). */
  isFenced: () => boolean;
  /** True if the control plane says that the set, which is not desired, is deleted (I12, I17). */
  canRemove: (setId: string) => boolean;
  /** True if the agent stops sets that exceed their `rootfs`. */
  stopsAtRootfs: boolean;
  /**
   * True if the state file says that this spec has run; without a key, that any spec of the set
   * has.
   */
  hasRunBefore: (setId: string, specKey?: string) => boolean;
  onRan: (setId: string, specKey: string) => void;
  /** Reads and writes the persisted part of a set's history. */
  persistedHistory: (setId: string) => PersistedHistory | undefined;
  onPersistedHistory: (setId: string, persisted: PersistedHistory | undefined) => void;
  /** Resolves when the persisted parts are on disk, or when their write has failed. */
  persistedHistorySettled: () => Promise<void>;
  onReport: (report: ObservedSet) => void;
  /** Called when the limits of the set have changed. */
  onResized: () => void;
  /**
   * Called when neither the control plane nor the host has the set. The runner is then obsolete.
   */
  onObsolete: (setId: string) => void;
  /** Aborted: runners start no step; steps in progress continue. */
  stopping: AbortSignal;
  /** Aborted: runners abort the steps in progress. */
  cancelled: AbortSignal;
}
