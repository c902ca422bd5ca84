import { z } from "zod";

/**
 * Bodies that alert senders post to a hook. Senders treat each 4xx as final, so these schemas read
 * only the members that Berth uses and ignore all others. The size of the whole body is the only
 * bound on labels and annotations.
 */

/** Senders put numbers, booleans and null into labels; Berth compares labels as text. */
const labelText = z
  .union([z.string(), z.number(), z.boolean(), z.null()])
  .transform((value) => (value === null ? "" : String(value)));
const labels = z.record(z.string(), labelText);
const time = z.iso.datetime({ offset: true, error: "must be an ISO 8601 timestamp" });

/** One alert of Alertmanager's or Grafana's webhook. */
export const webhookAlert = z.object({
  status: z.enum(["firing", "resolved"]),
  labels: labels.default({}),
  startsAt: time,
  endsAt: time.nullish(),
  fingerprint: z.string().min(1).max(128).nullish(),
});
export type WebhookAlert = z.output<typeof webhookAlert>;

/**
 * The webhook of Alertmanager (version "4") and of Grafana (version "1"). The handler validates
 * each alert separately, so that one malformed alert does not reject the others.
 */
export const webhookDelivery = z
  .object({
    version: z.string().optional(),
    truncatedAlerts: z
      .number()
      .int()
      .nonnegative()
      .nullish()
      .describe("The number of alerts that the sender left out because of its `max_alerts`."),
    alerts: z.array(
      z.unknown().meta({
        description: "An object with status, labels, startsAt, endsAt and fingerprint.",
      }),
    ),
  })
  .meta({ id: "WebhookDelivery" });
export type WebhookDelivery = z.output<typeof webhookDelivery>;

/**
 * The generic format: one alert. `key` names it; the same key and `startsAt` denote the same alert.
 */
export const genericDelivery = z
  .strictObject({
    key: z.string().min(1).max(128),
    status: z.enum(["firing", "resolved"]),
    startsAt: time
      .optional()
      .describe(
        "The time at which it began. Absent: the firing alert of this key, or a new alert that begins now.",
      ),
    labels: labels.default({}),
  })
  .meta({ id: "GenericDelivery" });
export type GenericDelivery = z.output<typeof genericDelivery>;

/** Zabbix resolves macros to text, so that numbers arrive as strings. */
const macro = z.union([z.string().max(1024), z.number()]).transform(String);

/** The body that the media type `examples/zabbix/berth-media-type.js` posts. */
export const zabbixDelivery = z
  .object({
    eventId: macro.describe("`{EVENT.ID}`: the problem event, also in its recovery message."),
    value: macro
      .pipe(z.enum(["0", "1"], { error: "must be 0 or 1" }))
      .describe("`{EVENT.VALUE}`: 1 while the problem exists, 0 once it is resolved."),
    triggerId: macro.describe("`{TRIGGER.ID}`"),
    host: macro.default("").describe("`{HOST.HOST}`"),
    name: macro.default("").describe("`{EVENT.NAME}`"),
    severity: macro.default("").describe("`{EVENT.SEVERITY}`"),
    tags: z
      .array(z.object({ tag: macro, value: macro.default("") }))
      .default([])
      .describe("`{EVENT.TAGSJSON}`, parsed."),
  })
  .meta({ id: "ZabbixDelivery" });
export type ZabbixDelivery = z.output<typeof zabbixDelivery>;

/**
 * The callback of Open-Falcon's alarm module. It sends query parameters; a JSON object with the
 * same members works too.
 */
export const falconDelivery = z
  .object({
    endpoint: macro,
    metric: macro,
    status: z.enum(["PROBLEM", "OK"]),
    priority: macro.default(""),
    tpl_id: macro
      .default("0")
      .describe("The template, expression and strategy that raised the alert."),
    exp_id: macro.default("0"),
    stra_id: macro.default("0"),
    tags: macro.default("").describe("`name:value` pairs, separated by commas."),
  })
  .meta({ id: "FalconDelivery" });
export type FalconDelivery = z.output<typeof falconDelivery>;

/** An alert in Berth's own terms, whatever format it arrived in. */
export interface Alert {
  key: string;
  status: "firing" | "resolved";
  /** ISO 8601; undefined: see genericDelivery. */
  startsAt: string | undefined;
  /**
   * ISO 8601, of resolved alerts whose sender states it: each run of this key that began before it
   * has ended.
   */
  endsAt?: string | undefined;
  labels: Record<string, string>;
  /**
   * The sender's own name of the alert, if its key is more than a hash of its labels. Part of its
   * default identity.
   */
  name?: string | undefined;
  /** Each key has one run only (an event id): a second `firing` of it is a repetition. */
  hasUniqueKey?: boolean | undefined;
}

/** A delivery in Berth's own terms. */
export interface Delivery {
  alerts: Alert[];
  /** Alerts that the sender left out. They may still fire. */
  truncatedAlerts: number;
  /** Alerts that Berth could not read. */
  errors: { pointer: string; detail: string }[];
}

export const hookReceiptSchema = z
  .strictObject({
    accepted: z.number().int(),
    ignored: z.number().int(),
    errors: z
      .array(z.strictObject({ pointer: z.string(), detail: z.string() }))
      .optional()
      .describe("Up to ten alerts that Berth could not read; it counts them as ignored."),
  })
  .meta({ id: "HookReceipt" });
