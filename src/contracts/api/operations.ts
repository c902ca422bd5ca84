import { z } from "zod";
import { reasonSchema, timestamp } from "../common/primitives.ts";

/** Kinds that the database stores. `start`, `stop` and `remove` follow from the state of a set. */
export const operationKinds = ["move", "resize", "update"] as const;
export type OperationKind = (typeof operationKinds)[number];

/** docs/internals/operations.md has the state diagram. */
export const operationPhases = [
  "waiting",
  "replacing",
  "leaving",
  "applying",
  "reverting",
] as const;
export type OperationPhase = (typeof operationPhases)[number];

/** Who or what requested the operation, and may cancel it. */
export const operationOwners = ["user", "drain", "resize", "rollout", "start-failed"] as const;
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
        "The requester: a user, the drain of the host, a resize or rollout of the service, or failed starts. Null for a start, a stop or a removal.",
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
