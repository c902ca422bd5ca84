import { z } from "zod";
import {
  idSchema,
  nameSchema,
  orNull,
  pageQuery,
  reasonSchema,
  timestamp,
} from "../common/primitives.ts";

/**
 * live: a set owns the volume. trashed: no set owns it, and the host retains it until it expires.
 */
export const volumeStates = ["live", "trashed"] as const;
export type VolumeState = (typeof volumeStates)[number];

const bytes = z.number().int().nonnegative();

/** A volume as the agent of its host observes it. */
export const reportedVolumeSchema = z
  .strictObject({
    volumeId: idSchema("vol"),
    setId: idSchema("set").describe("The set that owns the volume, or owned it last."),
    tenant: nameSchema,
    service: nameSchema,
    state: z.enum(volumeStates),
    sizeBytes: bytes,
    usedBytes: orNull(bytes).describe("The data in its file system. Null while it is not mounted."),
    trashedAt: orNull(timestamp),
    expiresAt: orNull(timestamp).describe("The host retains a trashed volume until this time."),
    reason: reasonSchema.nullable().default(null).describe("Why the last purge failed."),
  })
  .meta({ id: "ReportedVolume" });
export type ReportedVolume = z.infer<typeof reportedVolumeSchema>;

/** A volume that exists on its host, and that its agent cannot describe. */
export const unreadableVolumeSchema = z.strictObject({ volumeId: idSchema("vol") });
export type UnreadableVolume = z.infer<typeof unreadableVolumeSchema>;

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
    purging: z
      .boolean()
      .describe("A purge is requested; the host purges the volume after its next sync."),
    reason: reasonSchema.nullable().describe("Why the last purge failed. The host retries it."),
    reportedAt: timestamp.describe("The time of the last report that changed the volume."),
  })
  .meta({ id: "Volume" });
export type Volume = z.infer<typeof volumeSchema>;

export const listVolumesQuery = pageQuery.extend({
  service: nameSchema.optional(),
  host: idSchema("host").optional(),
  state: z.enum(volumeStates).optional(),
});

/** A purge cannot be undone, so `confirm` repeats the id. */
export const purgeVolumeBody = z
  .strictObject({ confirm: idSchema("vol") })
  .meta({ id: "PurgeVolume" });
