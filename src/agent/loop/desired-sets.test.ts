import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import { DesiredSets } from "./desired-sets.ts";

const made = localSet();

function setOf(name: string, generation: number, desired: DesiredSet["desired"] = "running") {
  return { ...made, setId: name, generation, desired };
}

function answer(hostGeneration: number, sets: DesiredSet[], full = false) {
  return { hostGeneration, sets, full };
}

function fullAnswer(hostGeneration: number, sets: DesiredSet[], setsToRemove: string[]) {
  return { hostGeneration, sets, full: true, setsToRemove };
}

describe("the desired sets of a host", () => {
  it("never accept an older generation of a set, even in a newer answer", () => {
    const desired = new DesiredSets(undefined);
    desired.accept(answer(5, [setOf("a", 3)]));
    expect(desired.accept(answer(5, [setOf("a", 2, "deleted")]))).toMatchObject({ changed: [] });
    expect(desired.get("a")).toMatchObject({ generation: 3, desired: "running" });
  });

  it("refuse an older answer as a whole, even a complete one", () => {
    const desired = new DesiredSets({ acceptedGeneration: 7, desired: [setOf("a", 3)] });
    expect(desired.accept(answer(6, [setOf("b", 9)], true))).toEqual({ kind: "stale" });
    expect(desired.list().map(({ setId }) => setId)).toEqual(["a"]);
    expect(desired.acceptedGeneration).toBe(7);
  });

  it("drop no set that a complete answer omits, unless the answer says that it is deleted", () => {
    const known = [setOf("a", 1), setOf("b", 1), setOf("c", 1, "deleted")];
    const desired = new DesiredSets({ acceptedGeneration: 1, desired: known });
    expect(desired.listUnlisted(["found"])).toEqual([]);
    const first = desired.accept(fullAnswer(2, [setOf("d", 1)], []));
    expect(first).toMatchObject({ dropped: ["c"], deleted: [] });
    expect(desired.listUnlisted(["found", "d"])).toEqual(["a", "b", "found"]);
    const second = desired.accept(fullAnswer(2, [setOf("d", 1)], ["a", "found"]));
    expect(second).toMatchObject({ dropped: ["a"], deleted: ["a", "found"] });
    expect(desired.list().map(({ setId }) => setId)).toEqual(["b", "d"]);
    desired.accept(answer(3, [setOf("e", 1)]));
    expect(desired.listUnlisted(["d", "e"])).toEqual(["b"]);
  });

  it("drop a set only if a complete answer of an older API does not name it", () => {
    const desired = new DesiredSets({ acceptedGeneration: 1, desired: [setOf("a", 1)] });
    expect(desired.accept(answer(2, [setOf("b", 1)]))).toMatchObject({ dropped: [] });
    expect(desired.accept(answer(2, [setOf("b", 1)], true))).toEqual({
      kind: "accepted",
      changed: [],
      unsupported: [],
      dropped: ["a"],
      isComplete: true,
      deleted: "unlisted",
    });
  });

  it("retain the last readable description beside a newer order that the agent cannot read", () => {
    const order = { setId: "a", generation: 4, desired: "stopped" as const, detail: "unknown" };
    const desired = new DesiredSets({ acceptedGeneration: 1, desired: [setOf("a", 3)] });
    const first = { ...answer(2, [], true), unsupported: [order] };
    expect(desired.accept(first)).toMatchObject({ unsupported: [order], dropped: [] });
    expect(desired.accept(first)).toMatchObject({ unsupported: [] });
    expect(desired.get("a")).toMatchObject({ generation: 3 });
    const next = new DesiredSets({
      acceptedGeneration: 2,
      desired: desired.list(),
      unsupported: desired.listUnsupported(),
    });
    expect(next.accept(answer(2, [setOf("a", 3)]))).toMatchObject({ changed: [] });
    expect(next.accept(answer(2, [setOf("a", 4)], true))).toMatchObject({ dropped: [] });
    expect(next.get("a")).toMatchObject({ generation: 4 });
    expect(next.listUnsupported()).toEqual([]);
  });

  it("list the trashed volume that an unreadable set restores, so that it is not purged", () => {
    const restoreVolumeId = "vol_1";
    const order = { setId: "a", generation: 4, desired: "running" as const, detail: "unknown" };
    const desired = new DesiredSets(undefined);
    desired.accept({ ...answer(2, [], true), unsupported: [{ ...order, restoreVolumeId }] });
    expect(desired.listOrders()).toMatchObject([{ restoreVolumeId, desired: "running" }]);
  });

  it("drop no set because of an answer with an unreadable set, which may be any of them", () => {
    const desired = new DesiredSets({ acceptedGeneration: 1, desired: [setOf("a", 1)] });
    const result = { ...answer(2, [], true), unreadable: 1 };
    expect(desired.accept(result)).toMatchObject({ dropped: [], isComplete: false });
  });

  it("treat an answer of the maximum length as incomplete", () => {
    const desired = new DesiredSets({ acceptedGeneration: 1, desired: [setOf("a", 1)] });
    const many = Array.from({ length: SETS_PER_HOST_MAX }, (_, i) => setOf(`s${i}`, 1));
    expect(desired.accept(answer(2, many, true))).toMatchObject({ dropped: [], isComplete: false });
    expect(desired.get("a")).toBeDefined();
  });

  it("forget only a deleted set in its removed generation", () => {
    const desired = new DesiredSets(undefined);
    desired.accept(answer(1, [setOf("a", 1), setOf("b", 4, "deleted")]));
    expect(desired.forgetDeleted("a", 1)).toBe(false);
    expect(desired.forgetDeleted("b", 3)).toBe(false);
    expect(desired.forgetDeleted("b", 4)).toBe(true);
    expect(desired.list().map(({ setId }) => setId)).toEqual(["a"]);
  });

  it("converge to the last state for any order and repetition of answers", () => {
    /**
     * A control plane changes sets in sequence. `asked` is the agent's generation at the request.
     */
    const history = fc.array(
      fc.record({
        set: fc.nat(3),
        isDeleted: fc.boolean(),
        asked: fc.nat(100),
        full: fc.boolean(),
      }),
      { minLength: 1, maxLength: 25 },
    );
    fc.assert(
      fc.property(history, fc.infiniteStream(fc.nat(1_000)), (changes, order) => {
        const last = new Map<string, { set: DesiredSet; hostGeneration: number }>();
        const answers = changes.map(({ set, isDeleted, asked, full }, position) => {
          const hostGeneration = position + 1;
          const name = `s${set}`;
          const generation = (last.get(name)?.set.generation ?? 0) + 1;
          const desired = setOf(name, generation, isDeleted ? "deleted" : "running");
          last.set(name, { set: desired, hostGeneration });
          const after = full ? -1 : asked % hostGeneration;
          const sets = [...last.values()].filter((known) => known.hostGeneration > after);
          return {
            after,
            ...answer(
              hostGeneration,
              sets.map((known) => known.set),
              full,
            ),
          };
        });
        const host = new DesiredSets(undefined);
        let highest = 0;
        const take = (position: number) => {
          const chosen = answers[position % answers.length];
          // An agent never requests changes after a generation that it has not accepted.
          if (!chosen || chosen.after > host.acceptedGeneration) return;
          const generations = new Map(host.list().map((set) => [set.setId, set.generation]));
          host.accept(chosen);
          highest = Math.max(highest, chosen.hostGeneration);
          expect(host.acceptedGeneration).toBe(highest);
          for (const [setId, generation] of generations) {
            expect(host.get(setId)?.generation ?? generation).toBeGreaterThanOrEqual(generation);
          }
        };
        for (let i = 0; i < 40; i++) take(order.next().value ?? 0);
        host.accept(
          answer(
            changes.length,
            [...last.values()].map(({ set }) => set),
            true,
          ),
        );
        highest = changes.length;
        take(order.next().value ?? 0);
        for (const { set } of last.values()) expect(host.get(set.setId)).toEqual(set);
      }),
    );
  });
});
