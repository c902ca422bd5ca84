import { familiarName } from "../model/image-name.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";
import type { SyncAnswer } from "../ports/control-plane.ts";

export type Acceptance = { kind: "stale" } | AcceptedAnswer;

export interface AcceptedAnswer {
  kind: "accepted";
  /** New or changed sets, and ids of sets that no longer belong to the host. */
  changed: DesiredSet[];
  /** New or changed sets that this agent cannot read. */
  unsupported: UnsupportedSet[];
  dropped: string[];
  /** The answer listed all sets of the host. */
  isComplete: boolean;
  /**
   * Sets that the host must not have, whether the agent found them or has their orders. "unlisted":
   * all that the answer does not list, because an older API does not say which it has deleted.
   */
  deleted: readonly string[] | "unlisted";
}

/**
 * The desired sets of this host and their generation. The generation never decreases. `accept`
 * refuses an answer that is older than the accepted one, and older generations of a set (I4).
 * Answers may arrive twice and in any order.
 */
export class DesiredSets {
  readonly #sets = new Map<string, DesiredSet>();
  /** The newer orders for sets whose description this agent cannot read. */
  readonly #unsupported = new Map<string, UnsupportedSet>();
  /** The sets of the last complete answer, and of later ones. Undefined before a complete one. */
  #listed: Set<string> | undefined;
  #acceptedGeneration: number;

  constructor(
    persisted:
      | {
          acceptedGeneration: number;
          desired: readonly DesiredSet[];
          unsupported?: readonly UnsupportedSet[] | undefined;
        }
      | undefined,
  ) {
    this.#acceptedGeneration = persisted?.acceptedGeneration ?? 0;
    for (const set of persisted?.desired ?? []) this.#sets.set(set.setId, set);
    for (const set of persisted?.unsupported ?? []) this.#unsupported.set(set.setId, set);
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

  /** Whether a set has an interface in a network. */
  haveAttachments(): boolean {
    return this.list().some(({ attachments }) => attachments !== undefined);
  }

  list(): DesiredSet[] {
    return [...this.#sets.values()];
  }

  listUnsupported(): UnsupportedSet[] {
    return [...this.#unsupported.values()];
  }

  /** False for a set that the last complete answer omits. True before the first one. */
  isListed(setId: string): boolean {
    return this.#listed?.has(setId) ?? true;
  }

  /**
   * Returns those of `setIds`, and of the desired sets, that the control plane does not list. Empty
   * before the first complete answer.
   */
  listUnlisted(setIds: Iterable<string>): string[] {
    const listed = this.#listed;
    if (!listed) return [];
    const ids = new Set([...this.#ids(), ...setIds]);
    return [...ids].filter((setId) => !listed.has(setId)).toSorted();
  }

  /** The orders for all sets, whether this agent can read their descriptions or not. */
  listOrders(): (DesiredSet | UnsupportedSet)[] {
    return [...this.list(), ...this.listUnsupported()];
  }

  /**
   * Applies an answer of the control plane. A set that it does not list stays desired until an
   * answer says that it is deleted: a restored database lacks the newest sets (I17).
   */
  accept(
    result: Pick<
      SyncAnswer,
      "hostGeneration" | "full" | "sets" | "setsToRemove" | "unsupported" | "unreadable"
    >,
  ): Acceptance {
    if (result.hostGeneration < this.#acceptedGeneration) return { kind: "stale" };
    this.#acceptedGeneration = result.hostGeneration;
    const changed: DesiredSet[] = [];
    for (const set of result.sets) {
      const known = this.#sets.get(set.setId);
      if (known && known.generation >= set.generation) continue;
      if ((this.#unsupported.get(set.setId)?.generation ?? 0) > set.generation) continue;
      this.#sets.set(set.setId, set);
      this.#unsupported.delete(set.setId);
      changed.push(set);
    }
    const unsupported = (result.unsupported ?? []).filter((set) => this.#acceptUnsupported(set));
    const accepted = { kind: "accepted" as const, changed, unsupported };
    const named = new Set([...result.sets, ...(result.unsupported ?? [])].map((set) => set.setId));
    // An answer with the maximum length may be truncated, and an unreadable set may be any set.
    const isComplete =
      result.full && named.size < SETS_PER_HOST_MAX && (result.unreadable ?? 0) === 0;
    if (!isComplete) {
      for (const setId of named) this.#listed?.add(setId);
      return { ...accepted, dropped: [], isComplete, deleted: [] };
    }
    this.#listed = named;
    const deleted = result.setsToRemove ?? "unlisted";
    const dropped = [...new Set(this.#ids())].filter(
      (setId) =>
        !named.has(setId) &&
        (deleted === "unlisted" || deleted.includes(setId) || this.#isOrderedDeleted(setId)),
    );
    for (const setId of dropped) this.#forget(setId);
    return { ...accepted, dropped, isComplete, deleted };
  }

  #ids(): string[] {
    return [...this.#sets.keys(), ...this.#unsupported.keys()];
  }

  #isOrderedDeleted(setId: string): boolean {
    const order = this.#unsupported.get(setId) ?? this.#sets.get(setId);
    return order?.desired === "deleted";
  }

  /** Returns whether the order is new. */
  #acceptUnsupported(order: UnsupportedSet): boolean {
    const before = this.#unsupported.get(order.setId) ?? this.#sets.get(order.setId);
    if (before && before.generation >= order.generation) return false;
    this.#unsupported.set(order.setId, order);
    return true;
  }

  #forget(setId: string): void {
    this.#sets.delete(setId);
    this.#unsupported.delete(setId);
  }

  /** Forgets a deleted set, once the control plane knows that the host has removed it. */
  forgetDeleted(setId: string, generation: number): boolean {
    const known = this.#unsupported.get(setId) ?? this.#sets.get(setId);
    if (known?.desired !== "deleted" || known.generation !== generation) return false;
    this.#forget(setId);
    return true;
  }
}
