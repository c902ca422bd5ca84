import { z } from "zod";
import { containerStatusSchema, observedSetStates } from "../api/sets.ts";
import { generationSchema, idSchema, reasonSchema } from "../common/primitives.ts";

/** A set as the agent observes it. A report about a stale generation changes no state. */
export const observedSetSchema = z
  .strictObject({
    setId: idSchema("set"),
    generation: generationSchema,
    /** absent: the host has neither containers nor a live volume of the set. */
    state: z.enum([...observedSetStates, "absent"]),
    ready: z.boolean(),
    reason: reasonSchema.nullable(),
    /**
     * With state failed: the agent does not retry, after a permanent error or the last retry. Berth
     * may place the set on another host.
     */
    gaveUp: z.boolean(),
    address: z.string().max(64).nullable(),
    /** The kernel enforces the amounts of this generation, as far as the agent knows. */
    sized: z.boolean().default(true),
    /**
     * The kernel refused the amounts at each of the agent's attempts. The agent continues to try
     * until Berth restores the previous size.
     */
    sizeRefused: z.boolean().default(false),
    containers: z.array(containerStatusSchema).max(17),
  })
  .meta({ id: "ObservedSet" });
export type ObservedSet = z.infer<typeof observedSetSchema>;
