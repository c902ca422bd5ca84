import { z } from "zod";
import { reasonSchema, timestamp } from "../common/primitives.ts";

/** Kinds that the database stores. `start`, `stop` and `remove` follow from the state of a set. */
export const operationKinds = ["move", "resize", "update"] as const;
export type OperationKind = (typeof operationKinds)[number];

/**
 * docs/internals/operations.md has the state diagram. updating: the agent replaces containers of
 * the set on its host. copying: a copy of the volume is growing on the next host, and the set runs.
 * halting: the set is stopped for the last part of the copy.
 */
export const operationPhases = [
  "waiting",
  "replacing",
  "leaving",
  "applying",
  "reverting",
  "updating",
  "copying",
  "halting",
] as const;
export type OperationPhase = (typeof operationPhases)[number];

/** Who or what requested the operation, and may cancel it. */
export const operationOwners = [
  "user",
  "drain",
  "resize",
  "rollout",
  "start-failed",
  "rebalance",
  "preemption",
] as const;
export type OperationOwner = (typeof operationOwners)[number];

/** The one change in progress on a set. */
export const operationSchema = z
  .strictObject({
    kind: z.enum([...operationKinds, "start", "stop", "remove"]),
    phase: z.enum([...operationPhases, "in-progress"]),
    owner: z
      .enum(operationOwners)
      .nullable()
      .describe(
        "The requester: a user, the drain of the host, a resize or rollout of the service, failed starts, a rebalance or a preemption. Null for a start, a stop or a removal.",
      ),
    blocked: reasonSchema
      .nullable()
      .describe("Why the operation waits. Null while it makes progress."),
    createdAt: timestamp.nullable(),
    deadlineAt: timestamp
      .nullable()
      .describe(
        "The time at which it expires with the outcome `expired`. Null if it waits without a limit.",
      ),
  })
  .meta({ id: "Operation" });
export type Operation = z.infer<typeof operationSchema>;

/** The outcome of an operation that did not reach its goal. */
export const operationOutcomes = ["reverted", "expired", "canceled"] as const;
export const endedOperationSchema = z
  .strictObject({
    kind: z.enum(operationKinds),
    outcome: z.enum(operationOutcomes),
    reason: reasonSchema,
  })
  .meta({ id: "EndedOperation" });
export type EndedOperation = z.infer<typeof endedOperationSchema>;
