import { z } from "zod";
import {
  generationSchema,
  idSchema,
  nameSchema,
  pageQuery,
  timestamp,
} from "../common/primitives.ts";

export const eventKinds = [
  "service-created",
  "service-changed",
  "service-scaled",
  "service-resized",
  "service-deleted",
  "set-placed",
  "set-rejected",
  "set-preparing",
  "set-starting",
  "set-running",
  "set-ready",
  "set-not-ready",
  "set-warning",
  "set-resized",
  "set-resize-refused",
  "set-stopping",
  "set-stopped",
  "set-failed",
  "set-lost",
  "set-held",
  "set-removed",
  "set-moved",
  "container-exited",
  "container-out-of-memory",
  "container-restarted",
  "volume-trashed",
  "volume-restored",
  "volume-purging",
  "volume-not-purged",
  "volume-purged",
  "volume-lost",
  "host-enrolled",
  "host-ready",
  "host-unhealthy",
  "host-lost",
  "host-ahead",
  "host-duplicated",
  "host-self-test-failed",
  "host-self-test-passed",
  "host-features-lost",
  "host-machine-accepted",
  "host-credential-rotated",
  "host-volumes-found",
  "host-volumes-adopted",
  "host-unknown-sets",
  "host-addresses-conflicting",
  "host-unknown-sets-deleted",
  "host-cordoned",
  "host-uncordoned",
  "host-draining",
  "host-deleted",
  "replacement-held",
  "rollout-started",
  "rollout-step",
  "rollout-paused",
  "rollout-resumed",
  "rollout-promoted",
  "rollout-rolling-back",
  "rollout-completed",
  "rollout-rolled-back",
  "rollout-failed",
  "rollout-superseded",
  "rollout-canceled",
  "set-updated",
  "demand-raised",
  "demand-resolved",
  "demand-released",
  "demand-stale",
  "alerts-truncated",
  "decision-made",
  "hook-changed",
  "tenant-changed",
  "registry-stored",
  "registry-deleted",
  "network-created",
  "network-changed",
  "network-deleted",
  "service-address-missing",
  "rules-created",
  "rule-changed",
  "rules-deleted",
  "token-created",
  "token-revoked",
] as const;
export type EventKind = (typeof eventKinds)[number];

/** Kinds that every set causes during its life: nearly all events are of these. */
export const frequentEventKinds = [
  "set-placed",
  "set-rejected",
  "set-preparing",
  "set-starting",
  "set-running",
  "set-ready",
  "set-stopping",
  "set-stopped",
  "set-removed",
] as const satisfies readonly EventKind[];

/**
 * The position of an event stream: the `id:` of a message, for `Last-Event-ID` and `after`. The
 * last two numbers, which earlier releases did not send, name the database server and the time.
 */
export const eventCursor = z.string().regex(/^\d{1,20}\.\d{1,19}(\.\d{1,20}\.\d{1,15})?$/);

export const eventSchema = z
  .strictObject({
    id: z.number().int(),
    at: timestamp,
    kind: z.enum(eventKinds),
    tenant: nameSchema.nullable(),
    service: nameSchema.nullable(),
    setId: idSchema("set").nullable(),
    hostId: idSchema("host").nullable(),
    generation: generationSchema.nullable(),
    text: z.string(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: "Event" });
export type BerthEvent = z.infer<typeof eventSchema>;

/** A page has the newest event first. A stream starts after `after` with the oldest event. */
export const listEventsQuery = pageQuery.extend({
  service: nameSchema.optional(),
  set: idSchema("set").optional(),
  host: idSchema("host").optional(),
  kind: z.enum(eventKinds).optional(),
  after: eventCursor.optional(),
});
