import { z } from "zod";
import { reasonSchema, timestamp } from "../common/primitives.ts";

/** Kinds that have a row of their own. `start`, `stop` and `remove` follow from a set's state. */
export const operationKinds = ["move", "resize", "update"] as const;
export type OperationKind = (typeof operationKinds)[number];

/** See the state diagram in docs/internals/operations.md. */
export const operationPhases = [
  "waiting",
  "replacing",
  "leaving",
  "applying",
  "reverting",
] as const;
export type OperationPhase = (typeof operationPhases)[number];

/** Who wants the operation. */
export const operationOwners = ["person", "drain", "resize", "rollout", "start-failed"] as const;
export type OperationOwner = (typeof operationOwners)[number];

/** The one change in progress on a set. */
export const operationSchema = z
  .strictObject({
    kind: z.enum([...operationKinds, "start", "stop", "remove"]),
    phase: z.enum([...operationPhases, "in-progress"]),
    owner: z.enum(operationOwners).nullable(),
    /** Why it waits; null while it makes progress. */
    blocked: reasonSchema.nullable(),
    createdAt: timestamp.nullable(),
    /** When it ends with the outcome `expired`; null: it waits without a limit. */
    deadlineAt: timestamp.nullable(),
  })
  .meta({ id: "Operation" });
export type Operation = z.infer<typeof operationSchema>;

/** How an operation ended that did not end as wanted. */
export const operationOutcomes = ["reverted", "expired", "canceled"] as const;
export const endedOperationSchema = z
  .strictObject({
    kind: z.enum(operationKinds),
    outcome: z.enum(operationOutcomes),
    reason: reasonSchema,
  })
  .meta({ id: "EndedOperation" });
export type EndedOperation = z.infer<typeof endedOperationSchema>;
