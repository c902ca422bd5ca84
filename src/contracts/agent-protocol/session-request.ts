import { z } from "zod";
import { sessionKinds } from "../api/sessions.ts";
import { idSchema, nameSchema } from "../common/primitives.ts";

/** The largest number of sessions that a host has at the same time. */
export const SESSIONS_PER_HOST_MAX = 64;

/**
 * A session for which the agent connects to /agent/v1/sessions/{sessionId}. The first frame there
 * has the details, such as the command.
 */
export const sessionRequestSchema = z.strictObject({
  sessionId: idSchema("ses"),
  setId: idSchema("set"),
  /** Undefined for a transfer. */
  container: nameSchema.optional(),
  kind: z.enum(sessionKinds),
});
export type SessionRequest = z.infer<typeof sessionRequestSchema>;
