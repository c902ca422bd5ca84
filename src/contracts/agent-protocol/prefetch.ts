import { z } from "zod";
import { imagePurposes } from "../api/rollouts.ts";
import { nameSchema, reasonSchema } from "../common/primitives.ts";

/** The largest number of images that an answer names. */
export const PREFETCHES_PER_SYNC_MAX = 200;
const REFERENCE_CHARACTERS_MAX = 255;

const reference = z.string().min(1).max(REFERENCE_CHARACTERS_MAX);

/** An image that the host pulls before a rollout needs it, or retains for the rollback. */
export const prefetchSchema = z.strictObject({
  reference,
  /** Its credentials serve the pull. */
  tenant: nameSchema,
  purpose: z.enum(imagePurposes),
});
export type Prefetch = z.infer<typeof prefetchSchema>;

/** The outcome of a pull. Newer agents may send more members, which the API ignores. */
export const prefetchedSchema = z.object({
  reference,
  tenant: nameSchema,
  state: z.enum(["pulled", "failed"]),
  /** The digest in the registry. Undefined for an image that is only local. */
  digest: z
    .string()
    .regex(/^sha256:[a-f0-9]{64}$/)
    .optional(),
  imageId: z
    .string()
    .regex(/^sha256:[a-f0-9]{64}$/)
    .optional(),
  /** With the state `failed`: a later attempt cannot succeed either. */
  isPermanent: z.boolean().optional(),
  reason: reasonSchema.optional(),
});
export type Prefetched = z.infer<typeof prefetchedSchema>;
