import { z } from "zod";
import {
  generationSchema,
  idSchema,
  nameSchema,
  orNull,
  pageQuery,
  reasonSchema,
  timestamp,
} from "../common/primitives.ts";
import { endedOperationSchema, operationSchema } from "./operations.ts";
import { waitSetTimeout } from "./services.ts";

/** States only move forward within one generation. docs/internals/set-states.md defines them. */
export const observedSetStates = [
  "pending",
  "placed",
  "preparing",
  "starting",
  "running",
  "stopping",
  "stopped",
  "failed",
  "lost",
] as const;
export type SetState = (typeof observedSetStates)[number];

/** The desired state. deleted: the host stops the set and removes all its objects. */
export const desiredSetStates = ["running", "stopped", "deleted"] as const;
export type DesiredSetState = (typeof desiredSetStates)[number];

export const containerStates = [
  "absent",
  "created",
  "running",
  "restarting",
  "exited",
  "dead",
] as const;

/** A container as the agent of its host last observed it. */
export const containerStatusSchema = z
  .strictObject({
    name: z.string().max(63),
    state: z.enum(containerStates),
    ready: z.boolean(),
    dockerId: z
      .string()
      .max(64)
      .nullable()
      .describe("Docker's id. Null while the container is absent."),
    restarts: z.number().int().nonnegative(),
    oomKills: z
      .number()
      .int()
      .nonnegative()
      .default(0)
      .describe("The number of its processes that the kernel killed because of missing memory."),
    rootfsUsedBytes: z
      .number()
      .int()
      .nonnegative()
      .nullable()
      .default(null)
      .describe(
        "The data in its root file system. Null while unknown. The containers of a set may use its rootfsBytes together.",
      ),
    exitCode: z.number().int().nullable(),
    startedAt: timestamp.nullable(),
    reason: reasonSchema.nullable(),
  })
  .meta({ id: "ContainerStatus" });
export type ContainerStatus = z.infer<typeof containerStatusSchema>;

export const setSchema = z
  .strictObject({
    id: idSchema("set"),
    tenant: nameSchema,
    service: nameSchema,
    revision: z.number().int().positive(),
    generation: generationSchema,
    desired: z.enum(desiredSetStates),
    state: z.enum(observedSetStates),
    ready: z.boolean(),
    completed: z
      .boolean()
      .describe(
        "True after all containers have exited with success and their restart policy restarts none. The set retains its host until it is deleted.",
      ),
    reason: reasonSchema
      .nullable()
      .describe("Why the set does not have its desired state, host or size. Null if it does."),
    host: z.strictObject({ id: idSchema("host"), name: nameSchema }).nullable(),
    address: z
      .string()
      .nullable()
      .describe("The address at which its containers listen. Null if it has none yet."),
    cpuMillis: z
      .number()
      .int()
      .describe(
        "The booked amounts, without the overhead of its containers. Until `resizeApplied` is true, the larger of its previous and its new size.",
      ),
    memoryBytes: z.number().int(),
    volumeBytes: z.number().int(),
    rootfsBytes: z.number().int(),
    memoryUsedBytes: z
      .number()
      .int()
      .nullable()
      .describe("The memory of its processes in its host's last report. Null if unknown."),
    resizeApplied: z
      .boolean()
      .describe("False while Berth has reserved a new size that the host has not applied."),
    moving: z
      .boolean()
      .describe(
        "True while the set is to leave its host: by a move, a drain, or a resize without capacity there.",
      ),
    operation: orNull(operationSchema).describe(
      "The change in progress. Null if the set is as desired.",
    ),
    lastOperation: orNull(endedOperationSchema).describe(
      "The last operation, if it did not reach its goal.",
    ),
    containers: z.array(containerStatusSchema),
    createdAt: timestamp,
    placedAt: timestamp.nullable(),
    runningAt: timestamp.nullable(),
    updatedAt: timestamp.describe(
      "The time of the last report that changed the set, or of the last decision about it.",
    ),
  })
  .meta({ id: "Set" });
export type BerthSet = z.infer<typeof setSchema>;

/** `POST /v1/sets/{setId}/move`. */
export const moveSetBody = z
  .strictObject({
    discardVolume: z
      .boolean()
      .optional()
      .describe(
        "Also moves a set with a volume: it gets an empty volume, and the old one goes to the trash.",
      ),
  })
  .meta({ id: "MoveSet" });

export const listSetsQuery = pageQuery.extend({
  service: nameSchema.optional(),
  host: idSchema("host").optional(),
  state: z.enum(observedSetStates).optional(),
});

const setGoals = z.enum(["running", "ready", "stopped", "deleted"]);
export const waitSetQuery = z.object({
  for: setGoals.optional().describe("Default: running."),
  state: setGoals.optional().describe("The previous name of `for`."),
  timeoutSeconds: waitSetTimeout,
});
export const waitSetResult = z
  .strictObject({ reached: z.boolean(), set: orNull(setSchema) })
  .meta({ id: "SetWait" });

/** `GET /v1/sets/{id}/explain`: why the set is on its host, or why it has none. */
export const setExplanationSchema = z
  .strictObject({
    setId: idSchema("set"),
    text: z.string().describe("The whole explanation as plain text."),
    placement: z
      .strictObject({
        id: idSchema("plc"),
        hostId: idSchema("host"),
        hostName: nameSchema,
        score: z.number(),
        because: z.record(z.string(), z.number()),
        at: timestamp,
      })
      .nullable(),
    rejection: z
      .strictObject({
        hostsTotal: z.number().int(),
        reasons: z.array(z.strictObject({ reason: z.string(), hosts: z.number().int() })),
        at: timestamp,
      })
      .nullable(),
    reason: reasonSchema.nullable(),
  })
  .meta({ id: "SetExplanation" });
export type SetExplanation = z.infer<typeof setExplanationSchema>;

/** The query of logs: the last `tail` lines, and with `follow` also all further lines. */
export const logsQuery = z.object({
  follow: z.stringbool().default(false),
  tail: z.coerce.number().int().min(0).max(10_000).default(100),
});
