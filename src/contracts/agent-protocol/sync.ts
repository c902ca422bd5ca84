import { z } from "zod";
import { reportedVolumeSchema, unreadableVolumeSchema } from "../api/volumes.ts";
import { generationSchema, idSchema, timestamp } from "../common/primitives.ts";
import { agentCapabilitiesSchema } from "./agent-capabilities.ts";
import { admissions } from "./agent-identity.ts";
import { desiredSetSchema } from "./desired-set.ts";
import { addressReportSchema } from "./address-report.ts";
import { hostUsageSchema } from "./host-usage.ts";
import { lenientArray, lenientList } from "./lenient-array.ts";
import { logStreamRequestSchema } from "./log-stream-request.ts";
import { observedSetSchema } from "./observed-set.ts";
import { PREFETCHES_PER_SYNC_MAX, prefetchedSchema, prefetchSchema } from "./prefetch.ts";
import { CREDENTIALS_PER_SYNC_MAX, registryCredentialSchema } from "./registry-credential.ts";
import { SESSIONS_PER_HOST_MAX, sessionRequestSchema } from "./session-request.ts";
import {
  AGENT_PROTOCOL_VERSION,
  PREVIOUS_HOSTS_MAX,
  PURGES_PER_SYNC_MAX,
  SETS_PER_HOST_MAX,
  SYNC_WAIT_MS_MAX,
  VOLUMES_PER_HOST_MAX,
} from "./protocol.ts";

/** An image reference in a report, in any form that Docker returns. */
export const imageReferenceSchema = z.string().max(255);
export const IMAGES_PER_HOST_MAX = 2_000;

export const dockerStates = ["ok", "slow", "unreachable"] as const;

/** `POST /agent/v1/sync`: the report of a host, and the generation that it has accepted. */
export const syncBody = z
  .strictObject({
    protocol: z.literal(AGENT_PROTOCOL_VERSION),
    agentVersion: z.string().max(64),
    /** The newest host generation whose desired sets the agent has persisted. */
    acceptedGeneration: generationSchema,
    /** Requests all desired sets: after a start, and periodically as a resync. */
    full: z.boolean(),
    /** How long the API may wait for changes before it responds. */
    waitMs: z.number().int().min(0).max(SYNC_WAIT_MS_MAX),
    observed: z.array(observedSetSchema).max(SETS_PER_HOST_MAX),
    docker: z.strictObject({ state: z.enum(dockerStates), detail: z.string().max(500) }).nullable(),
    /** Null if not measured. */
    usage: hostUsageSchema.nullable(),
    /**
     * All volumes of the host. Null if unchanged since the last report. An entry with its id only
     * is a volume that the agent cannot describe. A null entry means that the report may lack
     * volumes. Fields of newer agents are ignored.
     */
    volumes: lenientList(
      z.union([reportedVolumeSchema.strip(), unreadableVolumeSchema.strip()]),
      VOLUMES_PER_HOST_MAX,
    )
      .nullable()
      .default(null),
    /** The references of all images in the daemon. Null if unchanged since the last report. */
    images: lenientArray(imageReferenceSchema, IMAGES_PER_HOST_MAX).nullable(),
    /**
     * Sets on the host that the last full answer did not list: deleted ones, or sets that a
     * restored database lacks. Without this field the API changes nothing. The agent sends it only
     * to an API that has answered with `setsToRemove`, because an older one refuses the sync.
     */
    unlistedSets: z.array(idSchema("set")).max(SETS_PER_HOST_MAX).optional(),
    /** Sent only after an answer with `sendCapabilities`, because an older API refuses the sync. */
    capabilities: agentCapabilitiesSchema.optional(),
    /** Sent only after an answer with `sendAddresses`. */
    addresses: addressReportSchema.optional(),
    /**
     * The images of the last `prefetch` that are pulled, or cannot be. Sent only after an answer
     * with `prefetch`.
     */
    prefetched: lenientArray(prefetchedSchema, PREFETCHES_PER_SYNC_MAX).optional(),
  })
  .meta({ id: "Sync" });
export type Sync = z.infer<typeof syncBody>;

/** The response to a sync: the desired sets that changed, or all of them. */
export const syncResultSchema = z
  .strictObject({
    hostGeneration: generationSchema,
    /** `sets` has all sets of the host. */
    full: z.boolean(),
    sets: z.array(desiredSetSchema),
    /**
     * Those of `unlistedSets` that Berth has deleted, or replaced on another host. The agent
     * removes them, and manages the others as before. Without this field, the agent removes all
     * sets that a full answer does not list.
     */
    setsToRemove: z.array(idSchema("set")).max(SETS_PER_HOST_MAX).optional(),
    streams: z.array(logStreamRequestSchema),
    /** Sets whose state Berth does not know: the agent inspects and reports them again. */
    reportAgain: z.array(idSchema("set")).max(SETS_PER_HOST_MAX).default([]),
    /** Trashed volumes to purge now. Each sync names them until the host has purged them. */
    purgeVolumes: z.array(idSchema("vol")).max(PURGES_PER_SYNC_MAX).default([]),
    /**
     * Ids of deleted hosts that ran on this machine, the newest first, in a full answer. The agent
     * removes their sets, and adopts their volumes as trash.
     */
    previousHosts: z.array(idSchema("host")).max(PREVIOUS_HOSTS_MAX).optional(),
    /**
     * All credentials for the registries of this host's images, which replace the previous ones.
     * Missing if nothing says that they have changed, and from an API without encryption keys.
     */
    registryCredentials: z.array(registryCredentialSchema).max(CREDENTIALS_PER_SYNC_MAX).optional(),
    /** Requests `capabilities` in the next sync: the API has stored none, or another version. */
    sendCapabilities: z.boolean().optional(),
    /**
     * Requests `addresses` in the next sync: the database may lack addresses and host ports that
     * sets of the host have, because it was restored. Until then, Berth assigns no address.
     */
    sendAddresses: z.boolean().optional(),
    /** Requests a new credential: see takeNextCredentialBody. Older agents ignore it. */
    rotateCredential: z.boolean().optional(),
    /**
     * All images that the host pulls or retains for rollouts. Missing if nothing says that they
     * have changed, and for an agent without the feature `prefetch`.
     */
    prefetch: z.array(prefetchSchema).max(PREFETCHES_PER_SYNC_MAX).optional(),
    /** Sessions that wait for this host. An agent has the feature `sessions` to serve them. */
    sessions: z.array(sessionRequestSchema).max(SESSIONS_PER_HOST_MAX).optional(),
    leaseSeconds: z.number().int(),
    /**
     * The database server that answers. Another one may lack reports that the previous one has
     * confirmed, so the agent repeats them all.
     */
    databaseEpoch: z.string().max(64).optional(),
    /** Missing if the sync has no identity. Other results than `accepted` have no desired sets. */
    admission: z.enum(admissions).optional(),
    /** The clock of the API process, for agents of earlier releases. */
    serverTime: timestamp,
    /**
     * The clock of the database when it read the host, after the request and before the sets of the
     * answer. It starts and ends the retention of trashed volumes.
     */
    databaseTime: timestamp.optional(),
  })
  .meta({ id: "SyncResult" });
export type SyncResult = z.infer<typeof syncResultSchema>;
