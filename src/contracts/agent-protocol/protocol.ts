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
 * The agent protocol, version 1: everything is asked for by the agent, nothing ever connects to it.
 *
 * enroll once; then two independent loops over `sync`: one that waits (waitMs > 0) for desired sets newer than the
 * generation it accepted, and one that reports (waitMs = 0) what changed and what is used. Every sync renews the lease.
 * Observed sets are sent again until a sync that carried them was answered 200.
 */
export const AGENT_PROTOCOL_VERSION = 1;
export const SYNC_WAIT_MS_MAX = 25_000;
export const LEASE_SECONDS = 45;
/** Twice as many, with their templates, fit into one answer: see TEMPLATE_BYTES_MAX in set-template.ts. */
export const SETS_PER_HOST_MAX = 1_000;
/** Sets and containers. */
export const MEMORY_HOLDERS_PER_HOST_MAX = SETS_PER_HOST_MAX * (CONTAINERS_PER_SET_MAX + 2);
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
    /**
     * The credential that the host will have, of its own making: at least 256 random bits. With it a request whose answer was lost can be
     * made again, and gets the same answer. Without it the API makes one.
     */
    credential: z
      .string()
      .regex(/^brt_[A-Za-z0-9_-]{43,128}$/, "expected brt_ and 256 random bits")
      .optional(),
  })
  .meta({ id: "Enroll" });
export type Enroll = z.infer<typeof enrollBody>;

/** The agent keeps its credential in its state file. */
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

/** What other things on a host are called: one odd name is no reason to refuse all that a host has to say. */
export const imageReferenceSchema = z.string().max(255);
export const IMAGES_PER_HOST_MAX = 2_000;

/** What is said to hold memory on a host: sets, and containers by the first 12 characters of Docker's id. */
export const memoryHolderSchema = z.union([idSchema("set"), z.string().regex(/^[0-9a-f]{12}$/)]);

/** A list of what a host has found, of which only what is as it should be is taken. */
function foundList<S extends z.ZodType>(item: S, itemsMax: number) {
  return z.preprocess(
    (list) => (Array.isArray(list) ? list.filter((one) => item.safeParse(one).success) : list),
    z.array(item).max(itemsMax),
  );
}

/** The same of amounts by name. */
function foundAmounts<S extends z.ZodType<string, string>>(name: S, entriesMax: number) {
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
        trashedVolumeBytes: z.number().int().nonnegative().default(0),
        /** What is wrong with the host's volumes; it reports everything else all the same. */
        volumeReason: reasonSchema.nullable().default(null),
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
        setMemoryBytes: foundAmounts(memoryHolderSchema, MEMORY_HOLDERS_PER_HOST_MAX).default({}),
      })
      .nullable(),
    /** All volumes of the host. Null: unchanged since last sent. */
    volumes: foundList(reportedVolumeSchema, VOLUMES_PER_HOST_MAX).nullable().default(null),
    /** References of the images in the daemon. Null: unchanged since last sent. */
    images: foundList(imageReferenceSchema, IMAGES_PER_HOST_MAX).nullable(),
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
    /** Sets whose state is not known here any more: look at them, and report what is seen whatever was reported before. */
    reportAgain: z.array(idSchema("set")).max(SETS_PER_HOST_MAX).default([]),
    /** Trashed volumes to be destroyed now, on the word of a person; repeated until they are gone. */
    purgeVolumes: z.array(idSchema("vol")).max(PURGES_PER_SYNC_MAX).default([]),
    leaseSeconds: z.number().int(),
    serverTime: timestamp,
  })
  .meta({ id: "SyncResult" });
export type SyncResult = z.infer<typeof syncResultSchema>;
