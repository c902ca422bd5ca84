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
} from "../common/primitives.ts";
import { containerStatusSchema, setDesires, setStates } from "../api/sets.ts";
import { reportedVolumeSchema } from "../api/volumes.ts";
import { CONTAINERS_PER_SET_MAX, setTemplateSchema } from "../api/set-template.ts";

/**
 * The agent protocol, version 1. The agent opens every connection; nothing connects to the agent.
 *
 * The agent enrolls once. Then it runs two independent loops over `sync`. One loop (waitMs > 0)
 * waits for desired sets that are newer than the accepted generation. The other loop (waitMs = 0)
 * reports changed sets and usage. Each sync renews the lease. The agent repeats observed sets until
 * a sync that contains them is answered with 200.
 */
export const AGENT_PROTOCOL_VERSION = 1;
export const SYNC_WAIT_MS_MAX = 25_000;
export const LEASE_SECONDS = 45;
/** One answer can contain twice as many sets with their templates: see TEMPLATE_BYTES_MAX. */
export const SETS_PER_HOST_MAX = 1_000;
/** The number of sets and containers on a host. */
export const MEMORY_HOLDERS_PER_HOST_MAX = SETS_PER_HOST_MAX * (CONTAINERS_PER_SET_MAX + 2);
export const PURGES_PER_SYNC_MAX = 1_000;
/** Trashed volumes count too. */
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
    /**
     * The credential of the host, which the agent generates: at least 256 random bits. With it the
     * agent can repeat a request whose answer was lost, and receives the same answer. Default: the
     * API generates a credential.
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

/** A set as the agent observes it. A report about a stale generation changes no state. */
export const observedSetSchema = z
  .strictObject({
    setId: idSchema("set"),
    generation: generationSchema,
    /** absent: the host has neither containers nor a live volume of the set. */
    state: z.enum([...setStates, "absent"]),
    ready: z.boolean(),
    reason: reasonSchema.nullable(),
    /**
     * With state failed: the agent does not retry, after a permanent error or the last retry. Berth
     * may place the set on another host.
     */
    gaveUp: z.boolean(),
    address: z.string().max(64).nullable(),
    /** The kernel enforces the amounts of this generation, as far as the agent knows. */
    sized: z.boolean().default(true),
    /**
     * The kernel refused the amounts at each of the agent's attempts. The agent continues to try
     * until Berth restores the previous size.
     */
    sizeRefused: z.boolean().default(false),
    containers: z.array(containerStatusSchema).max(17),
  })
  .meta({ id: "ObservedSet" });
export type ObservedSet = z.infer<typeof observedSetSchema>;

/** An image reference in a report, in any form that Docker returns. */
export const imageReferenceSchema = z.string().max(255);
export const IMAGES_PER_HOST_MAX = 2_000;

/**
 * A holder of memory on a host: a set, or a container by the first 12 characters of Docker's id.
 */
export const memoryHolderSchema = z.union([idSchema("set"), z.string().regex(/^[0-9a-f]{12}$/)]);

/**
 * A list in a report. Invalid items are dropped, so that one of them does not reject the report.
 */
function lenientArray<S extends z.ZodType>(item: S, itemsMax: number) {
  return z.preprocess(
    (list) => (Array.isArray(list) ? list.filter((one) => item.safeParse(one).success) : list),
    z.array(item).max(itemsMax),
  );
}

/** Amounts by name in a report, without the invalid entries. */
function lenientAmounts<S extends z.ZodType<string, string>>(name: S, entriesMax: number) {
  const amount = z.number().int().nonnegative();
  return z.preprocess(
    (amounts) =>
      amounts !== null && typeof amounts === "object" && !Array.isArray(amounts)
        ? Object.fromEntries(
            Object.entries(amounts).filter(
              ([key, value]) => name.safeParse(key).success && amount.safeParse(value).success,
            ),
          )
        : amounts,
    z
      .record(name, amount)
      .refine((taken) => Object.keys(taken).length <= entriesMax, "too many entries"),
  );
}

export const dockerStates = ["ok", "slow", "unreachable"] as const;

export const syncBody = z
  .strictObject({
    protocol: z.literal(AGENT_PROTOCOL_VERSION),
    agentVersion: z.string().max(64),
    /** The newest host generation whose desired sets the agent has persisted. */
    acceptedGeneration: generationSchema,
    /** Requests all desired sets: after a start, and periodically as a resync. */
    full: z.boolean(),
    /** How long the API may wait for changes before it answers. */
    waitMs: z.number().int().min(0).max(SYNC_WAIT_MS_MAX),
    observed: z.array(observedSetSchema).max(SETS_PER_HOST_MAX),
    docker: z.strictObject({ state: z.enum(dockerStates), detail: z.string().max(500) }).nullable(),
    /** The use of all processes of the machine, and the share for sets. Null: not measured. */
    usage: z
      .strictObject({
        used: resourcesSchema,
        allocatable: resourcesSchema,
        /** The part of the used volume bytes that the agent frees when a new volume needs it. */
        reclaimableVolumeBytes: z.number().int().nonnegative().default(0),
        trashedVolumeBytes: z.number().int().nonnegative().default(0),
        /** A fault of the host's volumes. The rest of the report is valid all the same. */
        volumeReason: reasonSchema.nullable().default(null),
        /** The layers of all images and of all containers on Docker's disk. Null: unknown. */
        disk: z
          .strictObject({
            imageBytes: z.number().int().nonnegative(),
            containerBytes: z.number().int().nonnegative(),
          })
          .nullable()
          .default(null),
        /**
         * The memory of each set and of each container, without page cache that the kernel can
         * drop. The key of a container is the first 12 characters of Docker's id.
         */
        setMemoryBytes: lenientAmounts(memoryHolderSchema, MEMORY_HOLDERS_PER_HOST_MAX).default({}),
      })
      .nullable(),
    /** All volumes of the host. Null: unchanged since the last report. */
    volumes: lenientArray(reportedVolumeSchema, VOLUMES_PER_HOST_MAX).nullable().default(null),
    /** The references of all images in the daemon. Null: unchanged since the last report. */
    images: lenientArray(imageReferenceSchema, IMAGES_PER_HOST_MAX).nullable(),
  })
  .meta({ id: "Sync" });
export type Sync = z.infer<typeof syncBody>;

/** A set that the host should run, stop or delete, with everything that the agent needs for it. */
export const desiredSetSchema = z
  .strictObject({
    setId: idSchema("set"),
    tenant: nameSchema,
    service: nameSchema,
    revision: z.number().int(),
    generation: generationSchema,
    desired: z.enum(setDesires),
    /** The agent replaces containers of an older generation; `restart` increases this number. */
    restartGeneration: generationSchema,
    /** A trashed volume of this host that the set gets instead of a new one. */
    restoreVolumeId: orNull(idSchema("vol")).default(null),
    template: setTemplateSchema,
  })
  .meta({ id: "DesiredSet" });
export type DesiredSet = z.infer<typeof desiredSetSchema>;

/** A request for a container's log, which the agent posts to /agent/v1/streams/{streamId}. */
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
    /** `sets` has all sets of the host; the agent removes all other objects with Berth's labels. */
    full: z.boolean(),
    sets: z.array(desiredSetSchema),
    streams: z.array(logStreamRequestSchema),
    /** Sets whose state Berth does not know: the agent inspects and reports them again. */
    reportAgain: z.array(idSchema("set")).max(SETS_PER_HOST_MAX).default([]),
    /**
     * Trashed volumes to purge now, on request of a person. Repeated until the host purged them.
     */
    purgeVolumes: z.array(idSchema("vol")).max(PURGES_PER_SYNC_MAX).default([]),
    leaseSeconds: z.number().int(),
    serverTime: timestamp,
  })
  .meta({ id: "SyncResult" });
export type SyncResult = z.infer<typeof syncResultSchema>;
