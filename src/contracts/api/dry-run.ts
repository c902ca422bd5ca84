import { z } from "zod";
import { idSchema, nameSchema } from "../common/primitives.ts";
import { REPLICAS_MAX } from "../common/limits.ts";
import { createServiceBody } from "./services.ts";

/**
 * A dry run of one change: creating a service, applying a manifest as `berth apply` does, or
 * scaling a service. For `apply` it plans the sets that the change adds. It commits nothing.
 */
export const planBody = z
  .discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("create"), service: createServiceBody }),
    z.strictObject({ kind: z.literal("apply"), service: createServiceBody }),
    z.strictObject({
      kind: z.literal("scale"),
      service: nameSchema,
      replicas: z.number().int().min(0).max(REPLICAS_MAX),
    }),
  ])
  .meta({ id: "PlanRequest" });
export type PlanRequest = z.infer<typeof planBody>;

/**
 * Why a scale-in removes this set before others, in order of preference. It does not serve
 * (pending, failed, not-ready, stopped). Its host is cordoned or draining, or the set moves
 * (leaving-host). Its domain has the most sets (spread). It is the newest.
 */
export const removalReasons = [
  "pending",
  "failed",
  "not-ready",
  "stopped",
  "leaving-host",
  "spread",
  "newest",
] as const;
export type RemovalReason = (typeof removalReasons)[number];

export const planResultSchema = z
  .strictObject({
    policyVersion: z.number().int(),
    text: z.string().describe("The whole plan as plain text."),
    hosts: z
      .array(
        z.strictObject({
          hostId: idSchema("host"),
          hostName: nameSchema,
          sets: z.number().int(),
          because: z.string(),
        }),
      )
      .describe(
        "Hosts that would get sets, by descending number. At most 500; `placed` counts all sets.",
      ),
    placed: z.number().int(),
    rejected: z.number().int(),
    removed: z.number().int(),
    removals: z
      .array(
        z.strictObject({
          setId: idSchema("set"),
          hostName: nameSchema.nullable().describe("Null while the set waits for a host."),
          reason: z.enum(removalReasons),
        }),
      )
      .describe("Sets that the change removes, in order. At most 500; `removed` counts all sets."),
    reasons: z.array(z.strictObject({ reason: z.string(), hosts: z.number().int() })),
    hostsTotal: z.number().int(),
  })
  .meta({ id: "PlanResult" });
export type PlanResult = z.infer<typeof planResultSchema>;
