import { z } from "zod";
import {
  generationSchema,
  idSchema,
  labelsSchema,
  nameSchema,
  orNull,
  reasonSchema,
  resourcesSchema,
  timestamp,
} from "./primitives.ts";
import { containerStatusSchema, setDesires, setStates } from "./sets.ts";
import { reportedVolumeSchema } from "./volumes.ts";
import { CONTAINERS_PER_SET_MAX, setTemplateSchema } from "./set-template.ts";

/**
 * The agent protocol, version 1: everything is asked for by the agent, nothing ever connects to it.
 *
 * enroll once; then two independent loops over `sync`: one that waits (waitMs > 0) for desired sets newer than the
 * generation it accepted, and one that reports (waitMs = 0) what changed and what is used. Every sync renews the lease.
 * Observed sets are sent again until a sync that carried them was answered 200.
 */
export const AGENT_PROTOCOL_VERSION = 1;
export const SYNC_WAIT_MS_MAX = 25_000;
export const LEASE_SECONDS = 45;
export const SETS_PER_HOST_MAX = 5_000;
/** Sets and containers. */
const HOLDERS_PER_HOST_MAX = SETS_PER_HOST_MAX * (CONTAINERS_PER_SET_MAX + 2);
const shortDockerId = z.string().regex(/^[0-9a-f]{12}$/);
export const PURGES_PER_SYNC_MAX = 1_000;
/** Trashed ones included. */
export const VOLUMES_PER_HOST_MAX = 10_000;

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
  })
  .meta({ id: "Enroll" });
export type Enroll = z.infer<typeof enrollBody>;

/** The credential is shown this once; the agent keeps it in its state file. */
export const enrolledSchema = z
  .strictObject({ hostId: idSchema("host"), credential: z.string() })
  .meta({ id: "Enrolled" });
export type Enrolled = z.infer<typeof enrolledSchema>;

/** A set as the agent sees it. Reports about an older generation than Berth wants by now change no state. */
export const observedSetSchema = z
  .strictObject({
    setId: idSchema("set"),
    generation: generationSchema,
    /** absent: nothing of it is left on this host. */
    state: z.enum([...setStates, "absent"]),
    ready: z.boolean(),
    reason: reasonSchema.nullable(),
    /**
     * On failed: the agent has given up starting it here (permanent error, or retries used up). It may be placed elsewhere.
     */
    gaveUp: z.boolean(),
    address: z.string().max(64).nullable(),
    /** The kernel holds it to the amounts of this generation, as far as is known. */
    sized: z.boolean().default(true),
    /** It is not, and was refused as often as an agent tries: Berth is to take the size back. Tries go on until then. */
    sizeRefused: z.boolean().default(false),
    containers: z.array(containerStatusSchema).max(17),
  })
  .meta({ id: "ObservedSet" });
export type ObservedSet = z.infer<typeof observedSetSchema>;

export const dockerStates = ["ok", "slow", "unreachable"] as const;

export const syncBody = z
  .strictObject({
    protocol: z.literal(AGENT_PROTOCOL_VERSION),
    agentVersion: z.string().max(64),
    /** The host generation up to which desired sets were accepted and persisted. */
    acceptedGeneration: generationSchema,
    /** Ask for all desired sets: after a start, and from time to time to correct what was missed. */
    full: z.boolean(),
    /** How long to wait for news; 0 answers at once. */
    waitMs: z.number().int().min(0).max(SYNC_WAIT_MS_MAX),
    observed: z.array(observedSetSchema).max(SETS_PER_HOST_MAX),
    docker: z.strictObject({ state: z.enum(dockerStates), detail: z.string().max(500) }).nullable(),
    /** What all processes of the machine use, and what sets may use of it. Null: not measured this time. */
    usage: z
      .strictObject({
        used: resourcesSchema,
        allocatable: resourcesSchema,
        /** Of used volume bytes: of trashed volumes that are purged as soon as their room is needed. */
        reclaimableVolumeBytes: z.number().int().nonnegative().default(0),
        /** What the layers of all images, and all containers' own, take of Docker's disk. Null: not known. */
        disk: z
          .strictObject({
            imageBytes: z.number().int().nonnegative(),
            containerBytes: z.number().int().nonnegative(),
          })
          .nullable()
          .default(null),
        /**
         * What each set's processes hold of its memory, page cache that can be dropped left out; and each container's of
         * it, by the first 12 characters of Docker's id.
         */
        setMemoryBytes: z
          .record(z.union([idSchema("set"), shortDockerId]), z.number().int().nonnegative())
          .refine((held) => Object.keys(held).length <= HOLDERS_PER_HOST_MAX, "too many of them")
          .default({}),
      })
      .nullable(),
    /** All volumes of the host. Null: unchanged since last sent. */
    volumes: z.array(reportedVolumeSchema).max(VOLUMES_PER_HOST_MAX).nullable().default(null),
    /** References of the images in the daemon. Null: unchanged since last sent. */
    images: z.array(z.string().max(255)).max(2_000).nullable(),
  })
  .meta({ id: "Sync" });
export type Sync = z.infer<typeof syncBody>;

/** What a host should do about one set. It is complete: the agent needs nothing else to run the set. */
export const desiredSetSchema = z
  .strictObject({
    setId: idSchema("set"),
    tenant: nameSchema,
    service: nameSchema,
    revision: z.number().int(),
    generation: generationSchema,
    desired: z.enum(setDesires),
    /** Containers made before this generation are replaced: how `restart` works. */
    restartGeneration: generationSchema,
    /** A trashed volume of this host that is to be the set's, instead of a new one. */
    restoreVolumeId: orNull(idSchema("vol")).default(null),
    template: setTemplateSchema,
  })
  .meta({ id: "DesiredSet" });
export type DesiredSet = z.infer<typeof desiredSetSchema>;

/** Somebody reads a container's log: the agent posts it to /agent/v1/streams/{streamId}. */
export const logStreamRequestSchema = z.strictObject({
  streamId: idSchema("str"),
  setId: idSchema("set"),
  container: nameSchema,
  follow: z.boolean(),
  tail: z.number().int().min(0).max(10_000),
});
export type LogStreamRequest = z.infer<typeof logStreamRequestSchema>;

export const syncResultSchema = z
  .strictObject({
    hostGeneration: generationSchema,
    /** True: `sets` are all there are; whatever else of Berth's the host has is to be removed. */
    full: z.boolean(),
    sets: z.array(desiredSetSchema),
    streams: z.array(logStreamRequestSchema),
    /** Trashed volumes to be destroyed now, on the word of a person; repeated until they are gone. */
    purgeVolumes: z.array(idSchema("vol")).max(PURGES_PER_SYNC_MAX).default([]),
    leaseSeconds: z.number().int(),
    serverTime: timestamp,
  })
  .meta({ id: "SyncResult" });
export type SyncResult = z.infer<typeof syncResultSchema>;
