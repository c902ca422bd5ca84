import { z } from "zod";
import { idSchema, nameSchema, pageQuery, timestamp } from "../common/primitives.ts";
import { REPLICAS_MAX } from "../common/limits.ts";

const stepSeconds = z.number().int().min(10).max(86_400);

/**
 * The number of replicas that a rule requests while one of its alerts fires: absolute, or relative
 * to a base.
 */
export const replicaRequestSchema = z
  .strictObject({
    replicas: z.number().int().min(0).max(REPLICAS_MAX).optional(),
    step: z.number().int().min(1).max(REPLICAS_MAX).optional(),
    factor: z.number().min(1).max(100).optional(),
    stacks: z
      .boolean()
      .optional()
      .describe(
        "With `step`: each alert of the rule adds its step to the base. Without it the rule adds one step in total.",
      ),
    everySeconds: stepSeconds
      .optional()
      .describe("With `step`: the rule adds one more step each time it has fired for this long."),
  })
  .refine(
    (want) =>
      [want.replicas, want.step, want.factor].filter((part) => part !== undefined).length === 1,
    "expected exactly one of replicas, step and factor",
  )
  .refine(
    (want) =>
      want.step !== undefined || (want.stacks === undefined && want.everySeconds === undefined),
    "stacks and everySeconds need a step",
  )
  .meta({ id: "Want" });
export type ReplicaRequest = z.infer<typeof replicaRequestSchema>;

const labelMatch = z.record(z.string().min(1).max(256), z.string().max(1024));

/**
 * A rule matches an alert that has all labels of `match`. The first rule that matches an alert
 * applies.
 */
export const hookRuleSchema = z
  .strictObject({
    match: labelMatch.default({}),
    want: replicaRequestSchema,
    identity: z
      .array(z.string().min(1).max(256))
      .max(16)
      .optional()
      .describe(
        "Labels that distinguish the rule's alerts. By default, all labels except measured values identify an alert. A measured value is a label named `value`, or one whose text is a decimal fraction or a percentage.",
      ),
    holdMaxSeconds: z
      .number()
      .int()
      .min(300)
      .max(30 * 86_400)
      .optional()
      .describe(
        "Berth releases a demand in steps when no delivery has mentioned its alert for this long. Default: never.",
      ),
  })
  .meta({ id: "HookRule" });
export type HookRule = z.infer<typeof hookRuleSchema>;

const hookRules = z.array(hookRuleSchema).min(1).max(32);
/**
 * After an alert resolves Berth holds its demand for this long, so that a flapping alert does not
 * flap the service.
 */
const stabilizationSeconds = z.number().int().min(0).max(86_400);

export const createHookBody = z
  .strictObject({
    name: nameSchema,
    rules: hookRules,
    stabilizationSeconds: stabilizationSeconds.default(300),
  })
  .meta({ id: "CreateHook" });
export type CreateHook = z.infer<typeof createHookBody>;

/**
 * `PATCH /v1/services/{name}/hooks/{hookId}`: omitted members stay unchanged. The hook's
 * URL and token also stay.
 */
export const patchHookBody = z
  .strictObject({
    rules: hookRules.optional(),
    stabilizationSeconds: stabilizationSeconds.optional(),
  })
  .refine((patch) => Object.keys(patch).length > 0, "expected at least one member to change")
  .meta({ id: "PatchHook" });
export type PatchHook = z.infer<typeof patchHookBody>;

export const hookSchema = z
  .strictObject({
    id: idSchema("hook"),
    name: nameSchema,
    service: nameSchema,
    rules: z.array(hookRuleSchema),
    stabilizationSeconds: z.number().int(),
    paths: z
      .strictObject({
        alertmanager: z.string(),
        grafana: z.string(),
        zabbix: z.string(),
        falcon: z.string(),
        generic: z.string(),
      })
      .describe("One path for each format that senders can post; relative to the URL of the API."),
    createdAt: timestamp,
  })
  .meta({ id: "Hook" });
export type Hook = z.infer<typeof hookSchema>;

/** Only this response contains the token. Senders present it as `Authorization: Bearer …`. */
export const createdHookSchema = z
  .strictObject({ hook: hookSchema, token: z.string() })
  .meta({ id: "CreatedHook" });

/** Only this response contains the new token. */
export const rotatedHookSchema = z
  .strictObject({
    token: z.string(),
    formerExpiresAt: timestamp.describe("The previous token of the hook expires at this time."),
  })
  .meta({ id: "RotatedHook" });
export type RotatedHook = z.infer<typeof rotatedHookSchema>;

export const demandStates = ["firing", "resolved", "released"] as const;
export const demandSchema = z
  .strictObject({
    id: idSchema("dmd"),
    hook: nameSchema,
    key: z.string(),
    labels: z.record(z.string(), z.string()),
    state: z.enum(demandStates),
    wantedReplicas: z
      .number()
      .int()
      .describe(
        "The number of sets that this alert requests over the current base. A rule that stacks adds up its alerts.",
      ),
    baseReplicas: z
      .number()
      .int()
      .describe(
        "The size of the service without steps and factors: its replicas, or the largest absolute demand.",
      ),
    startedAt: timestamp,
    lastReceivedAt: timestamp.describe(
      "The last delivery that mentioned this alert, to within a minute.",
    ),
    resolvedAt: timestamp.nullable(),
    releaseAt: timestamp.nullable(),
  })
  .meta({ id: "Demand" });
export type Demand = z.infer<typeof demandSchema>;

/** One evaluation of how many sets a service should have, with its reasons. */
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
