import { z } from "zod";
import {
  idSchema,
  nameSchema,
  orNull,
  pageQuery,
  reasonSchema,
  timestamp,
} from "../common/primitives.ts";

/** live: a set's. trashed: nobody's, kept until it expires. */
export const volumeStates = ["live", "trashed"] as const;
export type VolumeState = (typeof volumeStates)[number];

const bytes = z.number().int().nonnegative();

/** A volume as its host's agent sees it. */
export const reportedVolumeSchema = z
  .strictObject({
    volumeId: idSchema("vol"),
    /** Whom it serves, or served last. */
    setId: idSchema("set"),
    tenant: nameSchema,
    service: nameSchema,
    state: z.enum(volumeStates),
    sizeBytes: bytes,
    /** What its file system holds; null while it is not mounted. */
    usedBytes: orNull(bytes),
    trashedAt: orNull(timestamp),
    /** A trashed volume is kept until then. */
    expiresAt: orNull(timestamp),
    /** Why it was not purged when it was to be. */
    reason: reasonSchema.nullable().default(null),
  })
  .meta({ id: "ReportedVolume" });
export type ReportedVolume = z.infer<typeof reportedVolumeSchema>;

export const volumeSchema = z
  .strictObject({
    id: idSchema("vol"),
    tenant: nameSchema,
    service: nameSchema,
    setId: idSchema("set"),
    host: z.strictObject({ id: idSchema("host"), name: nameSchema }),
    state: z.enum(volumeStates),
    sizeBytes: bytes,
    usedBytes: orNull(bytes),
    trashedAt: orNull(timestamp),
    expiresAt: orNull(timestamp),
    /** Its purge was asked for; its host does it as soon as it hears of it. */
    purging: z.boolean(),
    /** Why it was not purged when it was to be; tried again until it is. */
    reason: reasonSchema.nullable(),
    /** When its host spoke of it last. */
    reportedAt: timestamp,
  })
  .meta({ id: "Volume" });
export type Volume = z.infer<typeof volumeSchema>;

export const listVolumesQuery = pageQuery.extend({
  service: nameSchema.optional(),
  host: idSchema("host").optional(),
  state: z.enum(volumeStates).optional(),
});

/** A purge cannot be undone, so that the id is said twice. */
export const purgeVolumeBody = z
  .strictObject({ confirm: idSchema("vol") })
  .meta({ id: "PurgeVolume" });
