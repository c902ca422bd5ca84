import { z } from "zod";
import {
  REGISTRY_LENGTH_MAX,
  REGISTRY_PASSWORD_LENGTH_MAX,
  REGISTRY_USERNAME_LENGTH_MAX,
} from "../common/image-registry.ts";
import { nameSchema } from "../common/primitives.ts";

/** One answer has the credentials of at most this many registries and tenants. */
export const CREDENTIALS_PER_SYNC_MAX = 2_000;

/** The credential of a tenant for the registry of an image that the host may have to pull. */
export const registryCredentialSchema = z
  .strictObject({
    tenant: nameSchema,
    registry: z.string().max(REGISTRY_LENGTH_MAX),
    username: z.string().max(REGISTRY_USERNAME_LENGTH_MAX),
    /**
     * A password or an access token. Null if the API process lacks the key to decrypt it. The agent
     * then continues to use the one that it has.
     */
    password: z.string().max(REGISTRY_PASSWORD_LENGTH_MAX).nullable(),
  })
  .meta({ id: "RegistryCredential" });
export type RegistryCredential = z.infer<typeof registryCredentialSchema>;
