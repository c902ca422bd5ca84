import { z } from "zod";
import {
  generationSchema,
  idSchema,
  labelsSchema,
  nameSchema,
  reasonSchema,
  resourcesSchema,
  taintSchema,
  timestamp,
} from "../common/primitives.ts";

/** ready: takes sets. lost: its lease ran out. unhealthy: it reports, but its Docker daemon does not answer. */
export const hostStates = ["ready", "unhealthy", "lost"] as const;
export type HostState = (typeof hostStates)[number];

export const hostSchema = z
  .strictObject({
    id: idSchema("host"),
    name: nameSchema,
    pool: nameSchema,
    zone: nameSchema,
    rack: nameSchema,
    labels: labelsSchema,
    taints: z.array(taintSchema),
    state: z.enum(hostStates),
    reason: reasonSchema.nullable(),
    cordoned: z.boolean(),
    draining: z.boolean(),
    generation: generationSchema,
    agentVersion: z.string(),
    allocatable: resourcesSchema,
    allocated: resourcesSchema,
    /** What the host last measured, and when; null before its first report. */
    reported: z
      .strictObject({
        used: resourcesSchema,
        /** Of the used volume bytes: of trashed volumes that are purged as soon as their room is needed. */
        reclaimableVolumeBytes: z.number().int(),
        /** Of all volumes in the trash. */
        trashedVolumeBytes: z.number().int(),
        /** What is wrong with the host's volumes: a volume group that is missing, tags that cannot be read. */
        volumeReason: reasonSchema.nullable(),
        /** Layers of all images in Docker, and what all containers have written to their root file systems; null: not known. */
        imageBytes: z.number().int().nullable(),
        containerBytes: z.number().int().nullable(),
        at: timestamp,
      })
      .nullable(),
    sets: z.number().int(),
    leaseExpiresAt: timestamp,
    enrolledAt: timestamp,
  })
  .meta({ id: "Host" });
export type Host = z.infer<typeof hostSchema>;

const percent = z.number().int().min(1).max(1000);
const percents = z.strictObject({
  cpuMillis: percent.default(100),
  memoryBytes: percent.default(100),
  volumeBytes: percent.default(100),
  rootfsBytes: percent.default(100),
});

/** How far hosts of a pool are filled: `PUT /v1/host-pools/{name}`. */
export const hostPoolBody = z
  .strictObject({
    /** Booked amounts may reach allocatable x this / 100. */
    overcommitPercent: percents.prefault({}),
    /**
     * Measured use, with what was placed since the measurement, may reach allocatable x this / 100. Allocatable leaves the
     * machine its own share already, so only the root file system, which nothing limits, needs a margin by default.
     */
    highWaterPercent: percents.prefault({
      cpuMillis: 100,
      memoryBytes: 100,
      volumeBytes: 100,
      rootfsBytes: 90,
    }),
  })
  .meta({ id: "HostPoolInput" });
export const hostPoolSchema = z
  .strictObject({
    name: nameSchema,
    version: z.number().int(),
    overcommitPercent: percents,
    highWaterPercent: percents,
  })
  .meta({ id: "HostPool" });
export type HostPool = z.infer<typeof hostPoolSchema>;

export const patchHostBody = z
  .strictObject({
    labels: labelsSchema.optional(),
    taints: z.array(taintSchema).max(16).optional(),
  })
  .meta({ id: "PatchHost" });

/** A dead host takes along what it has, for good, so that its id is said twice. */
export const deleteHostQuery = z.object({ confirm: idSchema("host").optional() });
