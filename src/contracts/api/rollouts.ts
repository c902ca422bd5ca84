import { z } from "zod";
import { REPLICAS_MAX } from "../common/limits.ts";
import { idSchema, labelsSchema, nameSchema } from "../common/primitives.ts";
import type { ContainerTemplate, SetTemplate } from "./set-template.ts";

/** An update gives sets another revision. A restart starts their containers again. */
export const rolloutKinds = ["update", "restart"] as const;
export type RolloutKind = (typeof rolloutKinds)[number];

export const rolloutStates = [
  "queued",
  "running",
  "paused",
  "rolling-back",
  "completed",
  "rolled-back",
  "failed",
  "superseded",
  "canceled",
] as const;
export type RolloutState = (typeof rolloutStates)[number];

/** The current work of a rollout, for display. The planner decides by its state and its step. */
export const rolloutPhases = [
  "preparing",
  "updating",
  "soaking",
  "awaiting-promotion",
  "returning",
] as const;
export type RolloutPhase = (typeof rolloutPhases)[number];

/**
 * How a set gets its new revision. start-first: another set becomes ready and takes its place.
 * in-place: its outdated containers are replaced. in-place-all: all its containers are.
 */
export const updateMethods = ["start-first", "in-place", "in-place-all"] as const;
export type UpdateMethod = (typeof updateMethods)[number];

/** To the revision of the rollout, or back from it. */
export const updateDirections = ["to", "from"] as const;
export type UpdateDirection = (typeof updateDirections)[number];

/** The outcome of the update of one set. lost: its host is lost, or another change deleted it. */
export const updateOutcomes = ["done", "failed", "canceled", "lost"] as const;
export type UpdateOutcome = (typeof updateOutcomes)[number];

/** pull: a set of the host needs the image next. retain: a rollback may need it again. */
export const imagePurposes = ["pull", "retain"] as const;
export type ImagePurpose = (typeof imagePurposes)[number];

export const hostImageStates = ["requested", "pulled", "failed"] as const;
export type HostImageState = (typeof hostImageStates)[number];

const STEPS_MAX = 20;
const SELECTED_SETS_MAX = 200;
const ZONES_MAX = 64;
const SECONDS_MAX = 7 * 86_400;
/** A set with a new revision shows most faults within this time. */
const SOAK_SECONDS = 10;

const percent = z.number().int().min(1).max(100);

/** The sets that a step updates. Each step includes those of the previous ones. */
export const selectionSchema = z
  .union([
    z.strictObject({ count: z.number().int().min(1).max(REPLICAS_MAX) }),
    z.strictObject({ percent }),
    z.strictObject({ zones: z.array(nameSchema).min(1).max(ZONES_MAX) }),
    z.strictObject({ hostLabels: labelsSchema }),
    z.strictObject({ sets: z.array(idSchema("set")).min(1).max(SELECTED_SETS_MAX) }),
  ])
  .meta({ id: "RolloutSelection" });
export type RolloutSelection = z.infer<typeof selectionSchema>;

const metricPromotion = z
  .strictObject({
    metric: nameSchema,
    min: z.number().optional(),
    max: z.number().optional(),
    forSeconds: z
      .number()
      .int()
      .min(0)
      .max(SECONDS_MAX)
      .default(60)
      .describe("How long the value must have been within its bounds."),
    staleSeconds: z
      .number()
      .int()
      .min(1)
      .max(86_400)
      .default(60)
      .describe("An older value proves nothing: the step waits for another one."),
  })
  .refine(
    ({ min, max }) => min !== undefined || max !== undefined,
    "expected at least one of min and max",
  )
  .refine(
    ({ min = -Infinity, max = Infinity }) => min <= max,
    "expected a minimum of at most the maximum",
  );

/** The condition that ends a step whose sets are all updated and healthy. */
const promotionSchema = z
  .union([
    z.enum(["auto", "manual"]),
    z.strictObject({ afterSeconds: z.number().int().min(0).max(SECONDS_MAX) }),
    metricPromotion,
  ])
  .meta({ id: "RolloutPromotion" });
export type RolloutPromotion = z.infer<typeof promotionSchema>;

const stepSchema = z
  .strictObject({ select: selectionSchema, promote: promotionSchema.default("auto") })
  .meta({ id: "RolloutStep" });
export type RolloutStep = z.infer<typeof stepSchema>;

/** How a service changes its sets. Parses to a strategy with all its defaults but the steps. */
export const rolloutStrategyInput = z
  .strictObject({
    method: z
      .enum(["auto", "start-first", "in-place"])
      .default("auto")
      .describe(
        "auto: start-first where another set can take the place of the set, otherwise in-place.",
      ),
    steps: z
      .array(stepSchema)
      .min(1)
      .max(STEPS_MAX)
      .optional()
      .describe(
        "A last step with all sets is added if it is missing. Default: one set, for ten seconds or `minReadySeconds`, and then all.",
      ),
    parallel: z
      .union([
        z.number().int().min(1).max(REPLICAS_MAX),
        z.string().regex(/^(?:100|[1-9][0-9]?)%$/, 'expected a percentage such as "25%"'),
      ])
      .nullable()
      .default(null)
      .describe(
        "The number of sets that change at the same time. With null, as many as `disruption` permits.",
      ),
    progressDeadlineSeconds: z
      .number()
      .int()
      .min(10)
      .max(86_400)
      .default(600)
      .describe("A set that is not ready this long after the begin of its update has failed."),
    onFailure: z.enum(["pause", "rollback"]).default("pause"),
    unreadySeconds: z
      .number()
      .int()
      .min(0)
      .max(3600)
      .default(10)
      .describe("An updated set that is unready for this long has failed."),
    restartsMax: z
      .number()
      .int()
      .min(0)
      .max(1000)
      .default(3)
      .describe("A set whose containers restart this often during its update has failed."),
  })
  .meta({ id: "RolloutStrategyInput" });

/** The strategy of a service. Without steps it has the default ones. */
export type RolloutStrategySpec = z.infer<typeof rolloutStrategyInput>;

/** The strategy of one rollout. Its last step selects all sets. */
export type RolloutStrategy = Omit<RolloutStrategySpec, "steps"> & { steps: RolloutStep[] };

/** Changes of one container. Options that are missing stay. */
export interface ContainerChange {
  image?: string | undefined;
  options?:
    | { [K in keyof ContainerTemplate["options"]]?: ContainerTemplate["options"][K] | undefined }
    | undefined;
}

/** The change that a user requested. It applies to the template that is current at its start. */
export type RequestedChange =
  | { containers: Record<string, ContainerChange> }
  | { template: SetTemplate }
  | { toRevision: number }
  | { restart: true };

/** The strategy of a rollout that starts now, with all its steps. */
export function resolveStrategy(
  spec: RolloutStrategySpec | null,
  service: { replicas: number; minReadySeconds: number },
): RolloutStrategy {
  const given = spec ?? rolloutStrategyInput.parse({});
  const steps = given.steps ?? listDefaultSteps(service);
  const last = steps.at(-1);
  return { ...given, steps: last && selectsAll(last.select) ? steps : [...steps, allSets] };
}

const allSets: RolloutStep = { select: { percent: 100 }, promote: "auto" };

function listDefaultSteps(service: { replicas: number; minReadySeconds: number }): RolloutStep[] {
  if (service.replicas < 2) return [];
  const afterSeconds = Math.max(service.minReadySeconds, SOAK_SECONDS);
  return [{ select: { count: 1 }, promote: { afterSeconds } }];
}

function selectsAll(selection: RolloutSelection): boolean {
  return "percent" in selection && selection.percent === 100;
}
