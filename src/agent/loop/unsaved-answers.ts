import type { AcceptedAnswer } from "./desired-sets.ts";

/**
 * Takes the orders that only stop or remove sets out of accepted answers, oldest first. An agent
 * may apply them before it has persisted them: the next agent receives them again. An older
 * order for the same set is dropped, so that it never follows its removal.
 *
 * The result is not complete, even if an answer was. Otherwise the agent would remove found sets
 * whose orders wait.
 */
export function takeRemovals(unapplied: AcceptedAnswer[]): AcceptedAnswer {
  const changed = new Map<string, AcceptedAnswer["changed"][number]>();
  const unsupported = new Map<string, AcceptedAnswer["unsupported"][number]>();
  const dropped = new Set<string>();
  const removed = new Set<string>();
  for (const answer of unapplied.toReversed()) {
    const isPending = ({ setId }: { setId: string }) => !removed.has(setId);
    answer.changed = answer.changed.filter(isPending);
    answer.unsupported = answer.unsupported.filter(isPending);
    for (const set of answer.changed.filter(isRemoval)) changed.set(set.setId, set);
    for (const set of answer.unsupported.filter(isRemoval)) unsupported.set(set.setId, set);
    for (const setId of answer.dropped.filter((id) => !removed.has(id))) dropped.add(setId);
    answer.changed = answer.changed.filter((set) => !isRemoval(set));
    answer.unsupported = answer.unsupported.filter((set) => !isRemoval(set));
    answer.dropped = [];
    for (const setId of [...changed.keys(), ...unsupported.keys(), ...dropped]) removed.add(setId);
  }
  return {
    kind: "accepted",
    changed: [...changed.values()],
    unsupported: [...unsupported.values()],
    dropped: [...dropped],
    isComplete: false,
    deleted: [],
  };
}

/** Merges answers, oldest first, so that at most one waits: it is bounded by the sets of a host. */
export function mergeAnswers(answers: readonly AcceptedAnswer[]): AcceptedAnswer {
  const latest = <T extends { setId: string }>(sets: readonly T[]) => [
    ...new Map(sets.map((set) => [set.setId, set])).values(),
  ];
  return {
    kind: "accepted",
    changed: latest(answers.flatMap(({ changed }) => changed)),
    unsupported: latest(answers.flatMap(({ unsupported }) => unsupported)),
    dropped: answers.flatMap(({ dropped }) => dropped),
    isComplete: answers.some(({ isComplete }) => isComplete),
    deleted: answers.findLast(({ isComplete }) => isComplete)?.deleted ?? [],
  };
}

function isRemoval({ desired }: { desired: "running" | "stopped" | "deleted" }): boolean {
  return desired !== "running";
}
