import type { SyncResult } from "../../contracts/agent-protocol/sync.ts";

/** Whether an answer has something for the agent, so that its sync does not wait. */
export function hasNewsIn(answer: SyncResult): boolean {
  const { sets, streams, sessions = [], purgeVolumes, prefetch = [] } = answer;
  return [sets, streams, sessions, purgeVolumes, prefetch].some((list) => list.length > 0);
}
