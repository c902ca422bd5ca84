import { z } from "zod";
import { idSchema, labelsSchema, nameSchema, resourcesSchema } from "../common/primitives.ts";
import { AGENT_PROTOCOL_VERSION } from "./protocol.ts";

/** `POST /agent/v1/enroll`, with an enroll token as the bearer. */
export const enrollBody = z
  .strictObject({
    protocol: z.literal(AGENT_PROTOCOL_VERSION),
    name: nameSchema,
    zone: nameSchema.default("default"),
    rack: nameSchema.default("default"),
    labels: labelsSchema.default({}),
    allocatable: resourcesSchema,
    agentVersion: z.string().max(64),
    /**
     * The credential of the host, which the agent generates: at least 256 random bits. With it the
     * agent can repeat a request whose response was lost, and receives the same response. Default:
     * the API generates a credential.
     */
    credential: z
      .string()
      .regex(/^brt_[A-Za-z0-9_-]{43,128}$/, "expected brt_ and 256 random bits")
      .optional(),
  })
  .meta({ id: "Enroll" });
export type Enroll = z.infer<typeof enrollBody>;

/** The agent stores its credential in its state file. */
export const enrolledSchema = z
  .strictObject({ hostId: idSchema("host"), credential: z.string() })
  .meta({ id: "Enrolled" });
export type Enrolled = z.infer<typeof enrolledSchema>;
