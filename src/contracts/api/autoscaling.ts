import { z } from "zod";
import { idSchema, nameSchema, pageQuery, timestamp } from "../common/primitives.ts";
import { REPLICAS_MAX } from "./services.ts";

/** How many replicas an alert asks for: absolute, or relative to the count when it began (computed once). */
export const wantSchema = z
  .strictObject({
    replicas: z.number().int().min(0).max(REPLICAS_MAX).optional(),
    step: z.number().int().min(1).max(REPLICAS_MAX).optional(),
    factor: z.number().min(1).max(100).optional(),
  })
  .refine(
    (want) =>
      [want.replicas, want.step, want.factor].filter((part) => part !== undefined).length === 1,
    "expected exactly one of replicas, step and factor",
  )
  .meta({ id: "Want" });
export type Want = z.infer<typeof wantSchema>;

const labelMatch = z.record(z.string().min(1).max(256), z.string().max(1024));

/** Which alerts a rule is for: all named labels must be equal. The first rule that matches counts. */
export const hookRuleSchema = z
  .strictObject({ match: labelMatch.default({}), want: wantSchema })
  .meta({ id: "HookRule" });
export type HookRule = z.infer<typeof hookRuleSchema>;

const hookRules = z.array(hookRuleSchema).min(1).max(32);
/** After an alert resolves its demand is held this long, so that a flapping alert does not flap the service. */
const stabilisationSeconds = z.number().int().min(0).max(86_400);

export const createHookBody = z
  .strictObject({
    name: nameSchema,
    rules: hookRules,
    stabilisationSeconds: stabilisationSeconds.default(300),
  })
  .meta({ id: "CreateHook" });
export type CreateHook = z.infer<typeof createHookBody>;

/** `PATCH /v1/services/{name}/hooks/{hookId}`: what is absent stays; its address and its token do. */
export const patchHookBody = z
  .strictObject({
    rules: hookRules.optional(),
    stabilisationSeconds: stabilisationSeconds.optional(),
  })
  .refine((patch) => Object.keys(patch).length > 0, "expected at least one member to change")
  .meta({ id: "PatchHook" });
export type PatchHook = z.infer<typeof patchHookBody>;

export const hookKinds = ["alertmanager", "generic"] as const;
export type HookKind = (typeof hookKinds)[number];

export const hookSchema = z
  .strictObject({
    id: idSchema("hook"),
    name: nameSchema,
    service: nameSchema,
    rules: z.array(hookRuleSchema),
    stabilisationSeconds: z.number().int(),
    /** Where senders post to, by format; relative to the API's own address. */
    paths: z.strictObject({ alertmanager: z.string(), generic: z.string() }),
    createdAt: timestamp,
  })
  .meta({ id: "Hook" });
export type Hook = z.infer<typeof hookSchema>;

/** The token is shown this once: send it as `Authorization: Bearer …`. */
export const createdHookSchema = z
  .strictObject({ hook: hookSchema, token: z.string() })
  .meta({ id: "CreatedHook" });

/** Of any length and number: rules see them whole, and what is stored of them is cut. */
const alertLabels = z.record(z.string(), z.string());

/**
 * Alertmanager's webhook, version "4" (notify/webhook). It takes every 4xx for the last word on its alerts, so only what is
 * used is looked at, and nothing but the size of the whole delivery is bounded: all alerts of a group come at once, with
 * labels and annotations as long as their authors made them.
 */
export const alertmanagerDelivery = z
  .object({
    version: z.literal("4"),
    alerts: z.array(
      z.object({
        status: z.enum(["firing", "resolved"]),
        labels: alertLabels,
        startsAt: z.iso.datetime({ offset: true }),
        endsAt: z.iso.datetime({ offset: true }).optional(),
        fingerprint: z.string().min(1).max(128),
      }),
    ),
  })
  .meta({ id: "AlertmanagerDelivery" });
export type AlertmanagerDelivery = z.infer<typeof alertmanagerDelivery>;

/** The generic format: one alert. `key` names it; the same key and `startsAt` is the same alert. */
export const genericDelivery = z
  .strictObject({
    key: z.string().min(1).max(128),
    status: z.enum(["firing", "resolved"]),
    /** When it began. Absent: the running alert of this key, or now when there is none. */
    startsAt: z.iso.datetime({ offset: true }).optional(),
    labels: alertLabels.default({}),
  })
  .meta({ id: "GenericDelivery" });
export type GenericDelivery = z.infer<typeof genericDelivery>;

/** An alert in Berth's own words, whatever format it came in. */
export interface Alert {
  key: string;
  status: "firing" | "resolved";
  /** ISO 8601; undefined: see genericDelivery. */
  startsAt: string | undefined;
  /** ISO 8601, of resolved ones where the sender says it: every run of this key that began before it is over. */
  endsAt?: string | undefined;
  labels: Record<string, string>;
}

export const hookReceiptSchema = z
  .strictObject({ accepted: z.number().int(), ignored: z.number().int() })
  .meta({ id: "HookReceipt" });

export const demandStates = ["firing", "resolved", "released"] as const;
export const demandSchema = z
  .strictObject({
    id: idSchema("dmd"),
    hook: nameSchema,
    key: z.string(),
    labels: alertLabels,
    state: z.enum(demandStates),
    /** Computed once, when the alert began. */
    wantedReplicas: z.number().int(),
    baseReplicas: z.number().int(),
    startedAt: timestamp,
    resolvedAt: timestamp.nullable(),
    releaseAt: timestamp.nullable(),
  })
  .meta({ id: "Demand" });
export type Demand = z.infer<typeof demandSchema>;

/** One evaluation of how many sets a service should have, with the reasons, acted on or not. */
export const decisionSchema = z
  .strictObject({
    id: idSchema("dcn"),
    service: nameSchema,
    at: timestamp,
    fromReplicas: z.number().int(),
    toReplicas: z.number().int(),
    acted: z.boolean(),
    because: z.array(z.string()),
    generation: z.number().int(),
  })
  .meta({ id: "Decision" });
export type Decision = z.infer<typeof decisionSchema>;

/** `GET /v1/decisions`: newest first. */
export const listDecisionsQuery = pageQuery.extend({ service: nameSchema.optional() });
