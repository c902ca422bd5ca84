import fc from "fast-check";
import type { DisruptionBudget } from "../../../src/contracts/api/disruption-budget.ts";
import type { RolloutSelection, RolloutStrategy } from "../../../src/contracts/api/rollouts.ts";
import type { TemplateDiff } from "../../../src/scheduler/rollout/compare-templates.ts";
import type {
  Candidate,
  OpenRecord,
  RolloutFacts,
  RolloutInput,
} from "../../../src/scheduler/rollout/rollout-input.ts";

/** Inputs of the planner of rollouts: builders with sensible defaults, and arbitrary ones. */

export const NOW_MS = 10_000_000;

export const imageDiff: TemplateDiff = {
  level: "containers",
  containers: ["app"],
  changesImages: true,
  setMembers: [],
  servesDuringUpdate: false,
  needsNewSet: null,
};

export const strategy: RolloutStrategy = {
  method: "auto",
  steps: [
    { select: { count: 1 }, promote: { afterSeconds: 10 } },
    { select: { percent: 100 }, promote: "auto" },
  ],
  parallel: null,
  progressDeadlineSeconds: 600,
  onFailure: "pause",
  unreadySeconds: 10,
  restartsMax: 3,
};

export const budget: DisruptionBudget = { maxUnavailable: 1, maxSurge: "25%", minReadySeconds: 0 };

export function createFacts(facts: Partial<RolloutFacts> = {}): RolloutFacts {
  return {
    kind: "update",
    state: "running",
    strategy,
    step: 1,
    selection: { percent: 100 },
    returnsExcess: false,
    stepBeganAtMs: NOW_MS - 1_000,
    gateSinceMs: undefined,
    measurement: undefined,
    ...facts,
  };
}

export function createCandidate(setId: string, facts: Partial<Candidate> = {}): Candidate {
  return {
    setId,
    at: "from",
    isSelected: true,
    isAvailable: true,
    isStopped: false,
    host: { id: `host_of_${setId}`, state: "ready", isDraining: false },
    hasVolume: false,
    hasStaticAddress: false,
    diff: imageDiff,
    images: { state: "pulled" },
    operation: undefined,
    ...facts,
  };
}

export function createRecord(
  setId: string,
  {
    updated,
    ...facts
  }: Partial<Omit<OpenRecord, "updated">> & {
    updated?: Partial<OpenRecord["updated"]>;
  } = {},
): OpenRecord {
  return {
    setId,
    method: "in-place",
    direction: "to",
    isSelected: true,
    at: "to",
    isAvailable: false,
    diff: imageDiff,
    images: { state: "pulled" },
    hostId: `host_of_${setId}`,
    operation: { phase: "updating", owner: "rollout", leadsTo: "to" },
    isHeld: false,
    isStopped: false,
    beganAtMs: NOW_MS - 1_000,
    ...facts,
    updated: {
      isDeleted: false,
      state: "running",
      hostReadySinceMs: 0,
      isReady: false,
      readySinceMs: undefined,
      wasReady: false,
      unreadySinceMs: undefined,
      restarts: 0,
      ...updated,
    },
  };
}

/** A service of `replicas` sets, all available, of which `atTarget` have the target. */
export function createInput(
  { replicas, atTarget = 0 }: { replicas: number; atTarget?: number },
  {
    rollout,
    ...input
  }: Partial<Omit<RolloutInput, "rollout">> & {
    rollout?: Partial<RolloutFacts>;
  } = {},
): RolloutInput {
  return {
    nowMs: NOW_MS,
    rollout: createFacts(rollout),
    budget,
    counts: {
      desired: replicas,
      live: replicas,
      available: replicas,
      notExpected: 0,
      surging: 0,
    },
    totals: {
      desired: replicas,
      selected: 0,
      atTarget,
      availableAtTarget: atTarget,
      selectedAvailableAtTarget: 0,
      atOther: 0,
    },
    candidates: [],
    open: [],
    unhealthy: [],
    ...input,
  };
}

const selections = fc.oneof<fc.Arbitrary<RolloutSelection>[]>(
  fc.record({ count: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ percent: fc.integer({ min: 1, max: 100 }) }),
  fc.constant({ percent: 100 }),
  fc.constant({ zones: ["zone_a"] }),
);

const position = fc.constantFrom("from" as const, "to" as const, "other" as const);

const operations: fc.Arbitrary<Candidate["operation"]> = fc.option(
  fc.record({
    phase: fc.constantFrom(
      "waiting" as const,
      "replacing" as const,
      "updating" as const,
      "leaving" as const,
    ),
    owner: fc.constantFrom("rollout" as const, "rollout" as const, "drain" as const),
    leadsTo: position,
  }),
  { nil: undefined },
);

const diffs: fc.Arbitrary<TemplateDiff> = fc.constantFrom(
  imageDiff,
  { ...imageDiff, servesDuringUpdate: true },
  { ...imageDiff, level: "live", containers: [], changesImages: false, servesDuringUpdate: true },
  { ...imageDiff, level: "set-level", setMembers: ["sysctls"] },
  { ...imageDiff, level: "set-level", setMembers: ["networks"], needsNewSet: "networks" },
);

const images = fc.constantFrom(
  { state: "pulled" as const },
  { state: "pulled" as const },
  { state: "missing" as const },
  { state: "requested" as const, atMs: NOW_MS - 5_000 },
);

const candidate = (setId: string): fc.Arbitrary<Candidate> =>
  fc
    .record({
      at: position,
      isSelected: fc.boolean(),
      isAvailable: fc.boolean(),
      isStopped: fc.constantFrom(false, false, false, true),
      isPlaced: fc.constantFrom(true, true, true, false),
      hostState: fc.constantFrom("ready" as const, "ready" as const, "lost" as const),
      isDraining: fc.constantFrom(false, false, true),
      hasVolume: fc.boolean(),
      diff: diffs,
      images,
      operation: operations,
    })
    .map(({ isPlaced, hostState, isDraining, ...facts }) =>
      createCandidate(setId, {
        ...facts,
        isAvailable: facts.isAvailable && isPlaced && hostState === "ready" && !facts.isStopped,
        host: isPlaced ? { id: `host_of_${setId}`, state: hostState, isDraining } : undefined,
      }),
    );

const record = (setId: string): fc.Arbitrary<OpenRecord> =>
  fc
    .record({
      method: fc.constantFrom("start-first" as const, "in-place" as const, "in-place-all" as const),
      direction: fc.constantFrom("to" as const, "from" as const),
      isSelected: fc.boolean(),
      at: position,
      diff: diffs,
      isHeld: fc.boolean(),
      phase: fc.constantFrom("waiting" as const, "replacing" as const, "updating" as const),
      began: fc.nat(50_000),
    })
    .map(({ phase, began, ...facts }) =>
      createRecord(setId, {
        ...facts,
        isAvailable: phase !== "updating",
        operation: { phase, owner: "rollout", leadsTo: facts.direction },
        beganAtMs: phase === "waiting" ? undefined : NOW_MS - began,
      }),
    );

/** Any state of a rollout in which no set has failed; not all of them can occur. */
export const healthyInputs: fc.Arbitrary<RolloutInput> = fc
  .record({
    candidates: fc.nat(12).chain((count) => fc.tuple(...listIds("c", count).map(candidate))),
    open: fc.nat(5).chain((count) => fc.tuple(...listIds("o", count).map(record))),
    selection: selections,
    state: fc.constantFrom("running" as const, "running" as const, "rolling-back" as const),
    kind: fc.constantFrom("update" as const, "update" as const, "restart" as const),
    returnsExcess: fc.boolean(),
    parallel: fc.constantFrom(null, null, 1, 3, "50%"),
    method: fc.constantFrom("auto" as const, "start-first" as const, "in-place" as const),
    maxUnavailable: fc.constantFrom(0, 1, 3, "25%"),
    maxSurge: fc.constantFrom(1, 2, "25%"),
    others: fc.nat(8),
    othersAtTarget: fc.nat(8),
    surging: fc.nat(2),
  })
  .map(({ candidates, open, others, othersAtTarget, surging, ...facts }) => {
    const replicas = [...candidates, ...open];
    const live = replicas.length + others + othersAtTarget;
    const available = replicas.filter(({ isAvailable }) => isAvailable).length;
    const atTarget = replicas.filter(({ at }) => at === "to").length + othersAtTarget;
    const { maxUnavailable, maxSurge, method, parallel, ...rollout } = facts;
    return createInput(
      { replicas: live, atTarget },
      {
        rollout: { ...rollout, strategy: { ...strategy, method, parallel } },
        budget: { maxUnavailable, maxSurge, minReadySeconds: 0 },
        counts: {
          desired: live,
          live,
          available: available + others + othersAtTarget,
          notExpected: 0,
          surging,
        },
        candidates,
        open,
      },
    );
  });

function listIds(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, position) => `set_${prefix}${position}`);
}
