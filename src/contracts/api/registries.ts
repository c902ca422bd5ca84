import { z } from "zod";
import {
  REGISTRY_LENGTH_MAX,
  REGISTRY_PASSWORD_LENGTH_MAX,
  REGISTRY_USERNAME_LENGTH_MAX,
} from "../common/image-registry.ts";
import { idSchema, nameSchema, timestamp } from "../common/primitives.ts";

/** Bounds the credentials in the answers to agents. */
export const REGISTRIES_PER_TENANT_MAX = 64;

/** The name of a registry, in any form that Docker reads; see `parseRegistry`. */
export const registryName = z.string().max(REGISTRY_LENGTH_MAX);

export const putRegistryBody = z
  .strictObject({
    username: z
      .string()
      .min(1)
      .max(REGISTRY_USERNAME_LENGTH_MAX)
      // Basic authentication ends the user name at the first colon.
      .regex(/^[^\p{Cc}:]+$/u, "expected no colon and no control characters"),
    password: z
      .string()
      .min(1)
      .max(REGISTRY_PASSWORD_LENGTH_MAX)
      .describe("The password or an access token of the user. No answer contains it."),
  })
  .meta({ id: "PutRegistry" });
export type PutRegistry = z.infer<typeof putRegistryBody>;

/** A registry for which a tenant has stored a credential. */
export const registrySchema = z
  .strictObject({
    id: idSchema("reg"),
    tenant: nameSchema,
    /** As Docker names it, such as `docker.io`. */
    registry: z.string(),
    username: z.string(),
    createdAt: timestamp,
    /** The last change of the user name or the password. */
    updatedAt: timestamp,
  })
  .meta({ id: "Registry" });
export type Registry = z.infer<typeof registrySchema>;
