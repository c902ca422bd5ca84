import { familiarName } from "./image-name.ts";
import {
  type DesiredSet,
  SETS_PER_HOST_MAX,
  type SyncResult,
} from "../contracts/agent-protocol/protocol.ts";

export type Acceptance = { kind: "stale" } | AcceptedAnswer;

export interface AcceptedAnswer {
  kind: "accepted";
  /** Sets that are new or changed, and sets that the host should not have any more. */
  changed: DesiredSet[];
  dropped: string[];
  /** It named all sets of the host: what else is found there is nobody's. */
  isComplete: boolean;
}

/**
 * What this host was told to run, and up to which generation. It never goes back: an answer older than what was
 * accepted is refused whole, and a set never takes an older generation (I4). Answers may come twice and in any order.
 */
export class DesiredSets {
  readonly #sets = new Map<string, DesiredSet>();
  #acceptedGeneration: number;

  constructor(kept: { acceptedGeneration: number; desired: readonly DesiredSet[] } | undefined) {
    this.#acceptedGeneration = kept?.acceptedGeneration ?? 0;
    for (const set of kept?.desired ?? []) this.#sets.set(set.setId, set);
  }

  get acceptedGeneration(): number {
    return this.#acceptedGeneration;
  }

  get(setId: string): DesiredSet | undefined {
    return this.#sets.get(setId);
  }

  /** Images that these sets are made of, as the daemon lists them. */
  images(): Set<string> {
    const containers = this.list().flatMap(({ template }) => template.containers);
    return new Set(containers.map(({ image }) => familiarName(image)));
  }

  list(): DesiredSet[] {
    return [...this.#sets.values()];
  }

  /** Takes an answer that has just come. */
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
    // An answer as long as an answer may be is perhaps not all there is.
    const isComplete = result.full && result.sets.length < SETS_PER_HOST_MAX;
    if (!isComplete) return { kind: "accepted", changed, dropped: [], isComplete };
    const named = new Set(result.sets.map(({ setId }) => setId));
    const dropped = [...this.#sets.keys()].filter((setId) => !named.has(setId));
    for (const setId of dropped) this.#sets.delete(setId);
    return { kind: "accepted", changed, dropped, isComplete };
  }

  /** Forgets a set that was to be deleted, once it is known to be gone. */
  forgetDeleted(setId: string, generation: number): boolean {
    const known = this.#sets.get(setId);
    if (known?.desired !== "deleted" || known.generation !== generation) return false;
    return this.#sets.delete(setId);
  }
}
