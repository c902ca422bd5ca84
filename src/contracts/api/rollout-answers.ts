import { z } from "zod";
import {
  idSchema,
  nameSchema,
  orNull,
  pageOf,
  reasonSchema,
  timestamp,
} from "../common/primitives.ts";
import {
  rolloutKinds,
  rolloutPhases,
  rolloutStates,
  selectionSchema,
  updateDirections,
  updateMethods,
  updateOutcomes,
} from "./rollouts.ts";
import { waitSetTimeout } from "./services.ts";

/** The update of one set by a rollout. */
const rolloutSetSchema = z
  .strictObject({
    setId: idSchema("set"),
    replacementSetId: idSchema("set").nullable(),
    step: z.number().int().positive(),
    method: z.enum(updateMethods),
    direction: z
      .enum(updateDirections)
      .describe(
        "to: the set gets the revision of the rollout. from: it returns to the previous one.",
      ),
    beganAt: timestamp.nullable().describe("Null while it waits for the budget or for capacity."),
    outcome: z.enum(updateOutcomes).nullable().describe("Null while it is in progress."),
    reason: orNull(reasonSchema),
  })
  .meta({ id: "RolloutSet" });

const rolloutCounts = z
  .strictObject({
    sets: z.number().int().nonnegative(),
    updated: z.number().int().nonnegative().describe("Sets with the revision of the rollout."),
    ready: z.number().int().nonnegative().describe("Updated sets that are ready."),
    updating: z.number().int().nonnegative().describe("Sets whose update is in progress."),
    failed: z.number().int().nonnegative(),
  })
  .meta({ id: "RolloutCounts" });

export const rolloutSchema = z
  .strictObject({
    service: nameSchema,
    number: z.number().int().positive(),
    kind: z.enum(rolloutKinds),
    state: z.enum(rolloutStates),
    phase: z.enum(rolloutPhases).nullable(),
    fromRevision: z.number().int().positive().nullable(),
    toRevision: z.number().int().positive().nullable(),
    step: z.number().int().positive(),
    steps: z.number().int().positive(),
    selection: orNull(selectionSchema).describe("The sets of the current step."),
    counts: rolloutCounts,
    reason: orNull(reasonSchema).describe("Why it has its state."),
    message: z.string().nullable(),
    requestedBy: z.string().nullable(),
    changedBy: z
      .string()
      .nullable()
      .describe("The token that last changed its state. Null if Berth did."),
    createdAt: timestamp,
    startedAt: timestamp.nullable(),
    stepBeganAt: timestamp.nullable(),
    endedAt: timestamp.nullable(),
    sets: z.array(rolloutSetSchema).describe("At most 100: those in progress, then failed ones."),
  })
  .meta({ id: "Rollout" });
export type Rollout = z.infer<typeof rolloutSchema>;

export const rolloutPage = pageOf(rolloutSchema).meta({ id: "RolloutPage" });

/** The rollout after a change, and what the change causes. */
export const rolloutChangeSchema = z
  .strictObject({ rollout: rolloutSchema, effects: z.array(z.string()) })
  .meta({ id: "RolloutChange" });
export type RolloutChange = z.infer<typeof rolloutChangeSchema>;

/** `GET /v1/services/{name}/rollouts/{number}/wait`. */
export const waitRolloutQuery = z.object({
  for: z
    .enum(["ended", "still"])
    .default("ended")
    .describe("ended: it has ended. still: it has ended, is paused, or waits for a user."),
  timeoutSeconds: waitSetTimeout,
});
export type WaitRollout = z.infer<typeof waitRolloutQuery>;

export const waitRolloutResult = z
  .strictObject({ reached: z.boolean(), rollout: rolloutSchema })
  .meta({ id: "WaitRolloutResult" });
