import type { Log } from "../../lib/log.ts";
import type { Housekeeping } from "../housekeeping/housekeeping.ts";
import type { SyncAnswer } from "../ports/control-plane.ts";
import type { Reporter } from "../reporting/reporter.ts";
import type { LogStreams } from "../streams/log-streams.ts";
import type { Sessions } from "../streams/sessions.ts";
import type { AgentOptions } from "./agent-options.ts";
import type { PersistedState } from "./persisted-state.ts";
import type { PreviousHosts } from "./previous-hosts.ts";
import type { Refusals } from "./refusals.ts";
import type { SetRunners } from "./set-runners.ts";

/** The parts of the agent that an answer concerns. */
export interface AnsweredParts {
  persisted: PersistedState;
  refusals: Refusals;
  /** Undefined before the agent runs. */
  runners: SetRunners | undefined;
  reporter: Reporter;
  housekeeping: Housekeeping;
  streams: LogStreams;
  /** Undefined on a host without sessions. */
  sessions: Sessions | undefined;
  previousHosts: PreviousHosts | undefined;
  registryCredentials: AgentOptions["registryCredentials"];
  log: Log;
  /** Aborted when the agent stops. */
  stopping: AbortSignal;
  forget: (setId: string) => void;
}

/** stale: a newer answer has been accepted before. */
export type AcceptedAnswer = "changed" | "unchanged" | "stale";

/**
 * Applies an answer of the API to all parts of the agent. Rejects if the answer cannot be
 * persisted, after it has applied the members that need no persistence.
 */
export async function acceptAnswer(
  parts: AnsweredParts,
  result: SyncAnswer,
): Promise<AcceptedAnswer> {
  const { persisted, refusals, runners, reporter, housekeeping, streams, stopping } = parts;
  refusals.noteAccepted();
  streams.serve(result.streams, stopping);
  const sessions = result.sessions ?? [];
  parts.sessions?.serve(sessions, stopping);
  parts.previousHosts?.note(result.previousHosts ?? [], stopping);
  // Before its sets, because their first pulls may need the credentials.
  if (result.hostGeneration >= persisted.desired.acceptedGeneration)
    parts.registryCredentials?.update(result.registryCredentials);
  const accepted = await applyOrders(parts, result).catch((error: unknown) => ({ error }));
  if (accepted !== "stale") {
    runners?.allowStarts();
    housekeeping.prefetches.update(result.prefetch, stopping);
    housekeeping.volumes?.updateRetention(result, persisted.desired.listOrders());
  }
  reporter.noteDatabase(result.databaseEpoch);
  reporter.forceResend(result.reportAgain);
  runners?.observeAgain(result.reportAgain);
  if (typeof accepted === "object") throw accepted.error;
  // Only all desired sets show which of the stopped sets have not been replaced meanwhile.
  if (accepted !== "stale" && result.full) liftFence(parts);
  const hasRequests = result.streams.length + sessions.length > 0;
  return accepted === "unchanged" && hasRequests ? "changed" : accepted;
}

async function applyOrders(
  { persisted, runners, log, forget }: AnsweredParts,
  result: SyncAnswer,
): Promise<AcceptedAnswer> {
  return persisted.accept(result, (accepted) => {
    for (const setId of accepted.dropped) forget(setId);
    for (const { setId, detail } of accepted.unsupported)
      log.error({ setId, detail }, "the agent is too old for a set: upgrade the agent");
    runners?.apply(accepted);
  });
}

/** Starts the sets again after Berth, perhaps from a restored database, has accepted the host. */
function liftFence({ persisted, runners }: AnsweredParts): void {
  if (!persisted.isHostDeleted) return;
  persisted.noteHostDeleted(false);
  runners?.liftFence();
}
