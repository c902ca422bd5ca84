import { familiarName } from "./image-name.ts";
import type { DesiredSet } from "../contracts/agent-protocol/desired-set.ts";
import { SETS_PER_HOST_MAX } from "../contracts/agent-protocol/protocol.ts";
import type { SyncResult } from "../contracts/agent-protocol/sync.ts";

export type Acceptance = { kind: "stale" } | AcceptedAnswer;

export interface AcceptedAnswer {
  kind: "accepted";
  /** New or changed sets, and ids of sets that no longer belong to the host. */
  changed: DesiredSet[];
  dropped: string[];
  /**
   * The answer named all sets of the host. Any other set that the agent finds here is unknown to
   * the control plane.
   */
  isComplete: boolean;
}

/**
 * The desired sets of this host and their generation. The generation never decreases. `accept`
 * refuses an answer that is older than the accepted one, and older generations of a set (I4).
 * Answers may arrive twice and in any order.
 */
export class DesiredSets {
  readonly #sets = new Map<string, DesiredSet>();
  #acceptedGeneration: number;

  constructor(
    persisted: { acceptedGeneration: number; desired: readonly DesiredSet[] } | undefined,
  ) {
    this.#acceptedGeneration = persisted?.acceptedGeneration ?? 0;
    for (const set of persisted?.desired ?? []) this.#sets.set(set.setId, set);
  }

  get acceptedGeneration(): number {
    return this.#acceptedGeneration;
  }

  get(setId: string): DesiredSet | undefined {
    return this.#sets.get(setId);
  }

  /** Images of these sets, in the form that the daemon lists. */
  images(): Set<string> {
    const containers = this.list().flatMap(({ template }) => template.containers);
    return new Set(containers.map(({ image }) => familiarName(image)));
  }

  list(): DesiredSet[] {
    return [...this.#sets.values()];
  }

  /** Applies an answer of the control plane. */
  accept(result: Pick<SyncResult, "hostGeneration" | "full" | "sets">): Acceptance {
    if (result.hostGeneration < this.#acceptedGeneration) return { kind: "stale" };
    this.#acceptedGeneration = result.hostGeneration;
    const changed: DesiredSet[] = [];
    for (const set of result.sets) {
      const known = this.#sets.get(set.setId);
      if (known && known.generation >= set.generation) continue;
      this.#sets.set(set.setId, set);
      changed.push(set);
    }
    // An answer with the maximum length may be truncated.
    const isComplete = result.full && result.sets.length < SETS_PER_HOST_MAX;
    if (!isComplete) return { kind: "accepted", changed, dropped: [], isComplete };
    const named = new Set(result.sets.map(({ setId }) => setId));
    const dropped = [...this.#sets.keys()].filter((setId) => !named.has(setId));
    for (const setId of dropped) this.#sets.delete(setId);
    return { kind: "accepted", changed, dropped, isComplete };
  }

  /** Forgets a deleted set, once the control plane knows that the host has removed it. */
  forgetDeleted(setId: string, generation: number): boolean {
    const known = this.#sets.get(setId);
    if (known?.desired !== "deleted" || known.generation !== generation) return false;
    return this.#sets.delete(setId);
  }
}
