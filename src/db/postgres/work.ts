/**
 * Kind of work that a connection is taken for. A request of a tenant leaves connections
 * free for agents and jobs. Those leave one free for the placer.
 */
export type WorkKind = "request" | "agent" | "job" | "placement";

/** Work that waits for the database: who does it, and how long it may wait for a connection. */
export interface Work {
  kind: WorkKind;
  /** Tenant, host or hook whose work this is. One key holds a part of the connections at most. */
  owner?: string;
  /** The work is not worth doing after this time of `performance.now()`. */
  deadlineAtMs?: number;
  /**
   * Returns the signal that aborts when the caller disconnects. Called only when the work has to
   * queue.
   */
  signal?: () => AbortSignal;
}

/** The smaller number is served first. */
const priorities: Readonly<Record<WorkKind, number>> = {
  placement: 0,
  agent: 1,
  job: 1,
  request: 2,
};

export function getPriority(work: Work | undefined): number {
  return priorities[work?.kind ?? "job"];
}
