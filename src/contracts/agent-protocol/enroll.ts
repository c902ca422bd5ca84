import { z } from "zod";
import { idSchema, labelsSchema, nameSchema, resourcesSchema } from "../common/primitives.ts";
import { AGENT_PROTOCOL_VERSION } from "./protocol.ts";

/** A credential that an agent generates: at least 256 random bits. */
const generatedCredentialSchema = z
  .string()
  .regex(/^brt_[A-Za-z0-9_-]{43,128}$/, "expected brt_ and 256 random bits");

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
     * The credential of the host. With it the agent can repeat a request whose response was lost,
     * and receives the same response. Default: the API generates a credential.
     */
    credential: generatedCredentialSchema.optional(),
  })
  .meta({ id: "Enroll" });
export type Enroll = z.infer<typeof enrollBody>;

/** The agent stores its credential in its state file. */
export const enrolledSchema = z
  .strictObject({ hostId: idSchema("host"), credential: z.string() })
  .meta({ id: "Enrolled" });
export type Enrolled = z.infer<typeof enrolledSchema>;

/**
 * `POST /agent/v1/rotate-credential`: the next credential of the host. The agent generates and
 * saves it before the request, so it can repeat a request whose response was lost.
 */
export const takeNextCredentialBody = z
  .strictObject({
    protocol: z.literal(AGENT_PROTOCOL_VERSION),
    credential: generatedCredentialSchema,
  })
  .meta({ id: "TakeNextCredential" });
export type TakeNextCredential = z.infer<typeof takeNextCredentialBody>;

/** Berth accepts the next credential, and the current one until the first use of the next one. */
export const nextCredentialTakenSchema = z
  .strictObject({ hostId: idSchema("host") })
  .meta({ id: "NextCredentialTaken" });
