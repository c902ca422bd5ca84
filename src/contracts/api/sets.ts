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
import { waitSetTimeout } from "./services.ts";

/** Forward only within one generation; see docs/nomenclature.md for what each means. */
export const setStates = [
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
export type SetState = (typeof setStates)[number];

/** What a set should be. deleted: stopped and removed with all it holds on its host. */
export const setDesires = ["running", "stopped", "deleted"] as const;
export type SetDesire = (typeof setDesires)[number];

export const containerStates = [
  "absent",
  "created",
  "running",
  "restarting",
  "exited",
  "dead",
] as const;

/** A container as its host's agent last saw it. */
export const containerStatusSchema = z
  .strictObject({
    name: z.string().max(63),
    state: z.enum(containerStates),
    ready: z.boolean(),
    /** Docker's id; null while it is absent. */
    dockerId: z.string().max(64).nullable(),
    restarts: z.number().int().nonnegative(),
    /** Processes of it that the kernel killed for want of memory. */
    oomKills: z.number().int().nonnegative().default(0),
    /** What it has written to its root file system; null while that is not known. All of a set's together may be its rootfsBytes. */
    rootfsUsedBytes: z.number().int().nonnegative().nullable().default(null),
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
    desired: z.enum(setDesires),
    state: z.enum(setStates),
    ready: z.boolean(),
    /** Why it is not where or of the size that it should be; null when it is. */
    reason: reasonSchema.nullable(),
    host: z.strictObject({ id: idSchema("host"), name: nameSchema }).nullable(),
    /** Where its containers listen, once it has an address. */
    address: z.string().nullable(),
    /** What is booked for it: until it is `sized`, the larger of its former and its new size. */
    cpuMillis: z.number().int(),
    memoryBytes: z.number().int(),
    volumeBytes: z.number().int(),
    rootfsBytes: z.number().int(),
    /** What its processes hold of its memory, as of its host's last report; null: not known. */
    memoryUsedBytes: z.number().int().nullable(),
    /** False while a resize is booked, and its host has yet to apply it. */
    sized: z.boolean(),
    /** It is to leave its host: it was moved, or has no room there for its new size, or could not start there. */
    moving: z.boolean(),
    containers: z.array(containerStatusSchema),
    createdAt: timestamp,
    placedAt: timestamp.nullable(),
    runningAt: timestamp.nullable(),
    /** When the state was last reported or decided. */
    updatedAt: timestamp,
  })
  .meta({ id: "Set" });
export type BerthSet = z.infer<typeof setSchema>;

export const listSetsQuery = pageQuery.extend({
  service: nameSchema.optional(),
  host: idSchema("host").optional(),
  state: z.enum(setStates).optional(),
});

export const waitSetQuery = z.object({
  state: z.enum(["running", "ready", "stopped", "deleted"]).default("running"),
  timeoutSeconds: waitSetTimeout,
});
export const waitSetResult = z
  .strictObject({ reached: z.boolean(), set: orNull(setSchema) })
  .meta({ id: "SetWait" });

/** `GET /v1/sets/{id}/explain`: why it is there, or why it is nowhere. */
export const setExplanationSchema = z
  .strictObject({
    setId: idSchema("set"),
    /** The whole answer as text for people. */
    text: z.string(),
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

/** Query of logs: the last lines first, then what comes when `follow` is set. Text, one log line a line. */
export const logsQuery = z.object({
  follow: z.stringbool().default(false),
  tail: z.coerce.number().int().min(0).max(10_000).default(100),
});
