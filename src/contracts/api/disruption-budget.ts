import { z } from "zod";
import { REPLICAS_MAX } from "../common/limits.ts";

const percentage = z
  .string()
  .regex(/^(?:100|[1-9]?[0-9])%$/, 'expected a percentage such as "25%"');
const setLimit = z.union([z.number().int().min(0).max(REPLICAS_MAX), percentage]);

const isZero = (limit: number | string) => limit === 0 || limit === "0%";

/** The number of sets that drains, moves, resizes and scale-ins may disrupt at the same time. */
export const disruptionBudgetSchema = z
  .strictObject({
    maxUnavailable: setLimit
      .default(1)
      .describe("The number of sets that may be unavailable, or a percentage of the replicas."),
    maxSurge: setLimit
      .default("25%")
      .describe("The number of replacements beyond the replicas, or a percentage of the replicas."),
    minReadySeconds: z
      .number()
      .int()
      .min(0)
      .max(3600)
      .default(0)
      .describe("A set counts as available once it has been ready for this long."),
  })
  .refine(
    ({ maxUnavailable, maxSurge }) => !(isZero(maxUnavailable) && isZero(maxSurge)),
    "maxUnavailable and maxSurge must not both be 0, because no set could be moved",
  )
  .meta({ id: "DisruptionBudget" });
export type DisruptionBudget = z.infer<typeof disruptionBudgetSchema>;
