import { z } from "zod";
import { idSchema, nameSchema } from "../common/primitives.ts";

/** A request for a container's log, which the agent posts to /agent/v1/streams/{streamId}. */
export const logStreamRequestSchema = z.strictObject({
  streamId: idSchema("str"),
  setId: idSchema("set"),
  container: nameSchema,
  follow: z.boolean(),
  tail: z.number().int().min(0).max(10_000),
});
export type LogStreamRequest = z.infer<typeof logStreamRequestSchema>;
