import { z } from "zod";
import { hostCapabilitiesOrNull } from "./host-capabilities.ts";
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

/**
 * ready: the host accepts sets. lost: its lease expired. unhealthy: its agent syncs, but its Docker
 * daemon does not respond.
 */
export const hostStates = ["ready", "unhealthy", "lost"] as const;
export type HostState = (typeof hostStates)[number];

/**
 * The reasons for which the API refuses a second agent of a host.
 *
 * - another-machine: the host is bound to another machine.
 * - another-boot: another boot with the same machine id manages the host.
 * - newer-process: a newer process on this machine manages the host.
 */
export const duplicates = ["another-machine", "another-boot", "newer-process"] as const;
export type Duplicate = (typeof duplicates)[number];

export const hostSchema = z
  .strictObject({
    id: idSchema("host"),
    name: nameSchema,
    pool: nameSchema,
    zone: nameSchema,
    rack: nameSchema,
    labels: labelsSchema,
    taints: z.array(taintSchema),
    gatewayGroup: nameSchema
      .nullable()
      .describe(
        "The group of gateways to which the host belongs: its ports lead to services that name the group. Null if it is not a gateway.",
      ),
    state: z.enum(hostStates),
    reason: reasonSchema.nullable(),
    cordoned: z.boolean(),
    draining: z.boolean(),
    generation: generationSchema,
    agentVersion: z.string(),
    capabilities: hostCapabilitiesOrNull.describe(
      "The capabilities of the agent and its machine. Null for an agent of an earlier release.",
    ),
    allocatable: resourcesSchema,
    allocated: resourcesSchema.describe(
      "The booked amounts: those of its sets, and the overhead of their containers.",
    ),
    /** The last measurement of the host. Null before its first report. */
    reported: z
      .strictObject({
        used: resourcesSchema,
        reclaimableVolumeBytes: z
          .number()
          .int()
          .describe(
            "The part of the used volume bytes that the agent frees when a new volume needs it.",
          ),
        trashedVolumeBytes: z.number().int().describe("The size of all volumes in the trash."),
        reason: reasonSchema
          .nullable()
          .describe(
            "A fault of the host's volumes, clock or agent, such as a missing volume group.",
          ),
        volumeReason: reasonSchema
          .nullable()
          .describe("The same as `reason`, by the name of earlier releases."),
        imageBytes: z
          .number()
          .int()
          .nullable()
          .describe("The layers of all images in Docker. Null if unknown."),
        containerBytes: z
          .number()
          .int()
          .nullable()
          .describe("The data in the root file systems of all containers. Null if unknown."),
        at: timestamp,
      })
      .nullable(),
    sets: z.number().int(),
    unknownSets: z
      .array(idSchema("set"))
      .describe(
        "Sets on the host that the database does not know, because a restore or a failover lost them. Their containers continue to run.",
      ),
    leaseExpiresAt: timestamp,
    credential: z
      .strictObject({
        replacedAt: timestamp
          .nullable()
          .describe(
            "The end of the last rotation, when the agent first used its new credential. Null without one.",
          ),
        rotationRequestedAt: timestamp
          .nullable()
          .describe("When an operator requested a rotation that has not ended. Null without one."),
      })
      .describe("When the credential of the agent was or will be replaced."),
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

/** The limits to which Berth fills the hosts of a pool: `PUT /v1/host-pools/{name}`. */
export const hostPoolBody = z
  .strictObject({
    overcommitPercent: percents
      .prefault({})
      .describe("Booked amounts may reach this percentage of the allocatable amounts."),
    highWaterPercent: percents
      .prefault({
        cpuMillis: 100,
        memoryBytes: 100,
        volumeBytes: 100,
        rootfsBytes: 90,
      })
      .describe(
        "The limit of measured usage plus sets placed since the last report, as a percentage of the allocatable amounts. A value far above 100, such as 1000, disables the check in effect. The defaults leave a margin only for the root file system.",
      ),
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
    gatewayGroup: nameSchema
      .nullable()
      .optional()
      .describe("The group of gateways that the host joins. Null if it is not a gateway."),
  })
  .meta({ id: "PatchHost" });

/** The deletion of a lost host also deletes its sets and volumes, so `confirm` repeats its id. */
export const deleteHostQuery = z.object({ confirm: idSchema("host").optional() });

/** `POST /v1/hosts/{hostId}/adopt-volumes` */
export const adoptVolumesBody = z
  .strictObject({
    deletedHostId: idSchema("host"),
    confirm: idSchema("host").optional().describe("Repeats `deletedHostId`."),
  })
  .meta({ id: "AdoptVolumes" });
export type AdoptVolumes = z.infer<typeof adoptVolumesBody>;

/** `POST /v1/hosts/{hostId}/drain`; a repeated drain replaces the options. */
export const drainHostBody = z
  .strictObject({
    deadlineSeconds: z
      .number()
      .int()
      .min(1)
      .max(604_800)
      .optional()
      .describe(
        "If the drain is not complete by then, Berth emits an event. A forced drain then ignores disruption budgets.",
      ),
    force: z
      .boolean()
      .optional()
      .describe(
        "After the deadline, or immediately without one, the drain ignores disruption budgets and missing capacity. A set that fits on no host is pending.",
      ),
    discardVolumes: z
      .boolean()
      .optional()
      .describe(
        "Also moves sets with a volume: they get an empty volume, and the old one goes to the trash.",
      ),
  })
  .meta({ id: "DrainHost" });
export type DrainHost = z.infer<typeof drainHostBody>;
