import { z } from "zod";
import { REPLICAS_MAX, WAIT_SECONDS_MAX } from "../common/limits.ts";
import {
  generationSchema,
  idSchema,
  labelsSchema,
  nameSchema,
  orNull,
  reasonSchema,
  taintSchema,
  timestamp,
} from "../common/primitives.ts";
import { coresInput } from "../common/quantities.ts";
import {
  memoryInput,
  setTemplateInput,
  setTemplateSchema,
  volumeSizeInput,
} from "./set-template.ts";

const replicas = z.number().int().min(0).max(REPLICAS_MAX);

export const spreadDomains = ["zone", "rack", "host"] as const;

export const placementSpecSchema = z
  .strictObject({
    /** pack: uses the fewest hosts. spread: prefers the host with the most free capacity. */
    strategy: z.enum(["pack", "spread"]).default("pack"),
    /** The numbers of sets in two domains differ by at most maxSkew. */
    spread: z
      .array(
        z.strictObject({
          by: z.enum(spreadDomains),
          maxSkew: z.number().int().min(1).max(1000).default(1),
        }),
      )
      .max(3)
      .default([])
      .refine(
        (rules) => new Set(rules.map((rule) => rule.by)).size === rules.length,
        "expected each domain once",
      ),
    /**
     * Services of the tenant whose sets must not share a host with sets of this service. Its own
     * name permits one set per host.
     */
    antiAffinity: z.array(nameSchema).max(16).default([]),
    /** Services of the tenant whose hosts are preferred, but not required. */
    affinity: z.array(nameSchema).max(16).default([]),
    hostLabels: labelsSchema.default({}),
    tolerations: z.array(taintSchema).max(16).default([]),
    pool: nameSchema.default("default"),
  })
  .meta({ id: "PlacementSpec" });
export type PlacementSpec = z.infer<typeof placementSpecSchema>;

const paceSeconds = z.number().int().min(0).max(86_400);

export const autoscaleSpecSchema = z
  .strictObject({
    min: replicas,
    max: replicas,
    /**
     * After demands end, Berth removes at most `step` sets each `everySeconds`, and decides again
     * before each step. Default: a tenth of the sets, at least one, each 60 seconds.
     */
    scaleIn: z
      .strictObject({
        step: z.number().int().min(1).max(REPLICAS_MAX).optional(),
        everySeconds: paceSeconds.default(60),
      })
      .optional(),
    /**
     * Demands take a further step when the sets of the last step are ready, or after this time.
     * Default: 60 seconds.
     */
    scaleOut: z.strictObject({ cooldownSeconds: paceSeconds }).optional(),
    /** Must be empty, as Berth does not collect metrics yet. */
    metrics: z
      .array(
        z.strictObject({
          type: z.enum(["cpu", "memory"]),
          target: z.number().int().min(1).max(100),
        }),
      )
      .max(8)
      .default([]),
  })
  .refine((spec) => spec.min <= spec.max, { path: ["min"], message: "min must not be above max" })
  .meta({ id: "AutoscaleSpec" });
export type AutoscaleSpec = z.infer<typeof autoscaleSpecSchema>;

/** `replace-without-data` also replaces sets with a volume, which restart empty (I13). */
export const hostLostPolicies = ["replace", "wait", "replace-without-data"] as const;
export type HostLostPolicy = (typeof hostLostPolicies)[number];

/** The default policy of a service: sets with a volume wait for their host. */
export function defaultHostLostPolicy(template: { volume: unknown }): HostLostPolicy {
  return template.volume === null ? "replace" : "wait";
}

export const REPLACE_WITH_VOLUME_TEXT =
  "A set with a volume cannot be replaced without losing its data. Use `wait`, or `replace-without-data` to start it elsewhere with an empty volume.";

const percentage = z
  .string()
  .regex(/^(?:100|[1-9]?[0-9])%$/, 'expected a percentage such as "25%"');
const setLimit = z.union([z.number().int().min(0).max(REPLICAS_MAX), percentage]);

/** The number of sets that drains, moves, resizes, rollouts and scale-ins may disrupt at once. */
export const disruptionBudgetSchema = z
  .strictObject({
    /** The number of sets that may be unavailable, or a percentage of the replicas. */
    maxUnavailable: setLimit.default(1),
    /** The number of replacements beyond the replicas, or a percentage of the replicas. */
    maxSurge: setLimit.default("25%"),
    /** A set counts as available once it has been ready for this long. */
    minReadySeconds: z.number().int().min(0).max(3600).default(0),
  })
  .meta({ id: "DisruptionBudget" });
export type DisruptionBudget = z.infer<typeof disruptionBudgetSchema>;

/** `POST /v1/services`. */
export const createServiceBody = z
  .strictObject({
    name: nameSchema,
    replicas: replicas.default(1),
    /** Sets with a higher priority are placed first. */
    priority: z.number().int().min(0).max(1000).default(100),
    template: setTemplateInput,
    placement: placementSpecSchema.prefault({}),
    /**
     * replace: new sets replace the sets of a lost host. wait: sets wait for their host.
     * replace-without-data: as replace, and sets with a volume start elsewhere with an empty
     * volume. Default: wait for a template with a volume, else replace.
     */
    onHostLost: z.enum(hostLostPolicies).optional(),
    autoscale: orNull(autoscaleSpecSchema).default(null),
    disruption: disruptionBudgetSchema.prefault({}),
  })
  .superRefine((service, context) => {
    const { autoscale } = service;
    if (service.onHostLost === "replace" && service.template.volume !== null) {
      context.addIssue({ code: "custom", path: ["onHostLost"], message: REPLACE_WITH_VOLUME_TEXT });
    }
    if (autoscale && (service.replicas < autoscale.min || service.replicas > autoscale.max)) {
      context.addIssue({
        code: "custom",
        path: ["replicas"],
        message: `replicas must lie between autoscale.min (${autoscale.min}) and autoscale.max (${autoscale.max})`,
      });
    }
  })
  .meta({ id: "CreateService" });
export type CreateService = z.infer<typeof createServiceBody>;

/** `PATCH /v1/services/{name}`: absent members stay unchanged. `scale` changes the replicas. */
export const patchServiceBody = z
  .strictObject({
    priority: z.number().int().min(0).max(1000).optional(),
    template: setTemplateInput.optional(),
    placement: placementSpecSchema.optional(),
    onHostLost: z.enum(hostLostPolicies).optional(),
    autoscale: orNull(autoscaleSpecSchema).optional(),
    disruption: disruptionBudgetSchema.optional(),
    /**
     * Default: a changed template becomes the target revision, which waits for a rollout.
     * `new-sets`: the target revision becomes the current revision of new sets; existing sets stay
     * unchanged.
     */
    adopt: z.literal("new-sets").optional(),
  })
  .refine((patch) => Object.keys(patch).length > 0, "expected at least one member to change")
  .meta({ id: "PatchService" });
export type PatchService = z.infer<typeof patchServiceBody>;

/** `POST /v1/services/{name}/scale`: an absolute number, so a repeated request changes nothing. */
export const scaleServiceBody = z.strictObject({ replicas }).meta({ id: "ScaleService" });

/** `POST /v1/services/{name}/resize`: absolute amounts for each set; absent amounts stay. */
export const resizeServiceBody = z
  .strictObject({
    cpu: coresInput.optional(),
    memory: memoryInput.optional(),
    /** A volume cannot shrink. */
    volume: volumeSizeInput.optional(),
    /**
     * If a host has no capacity for the larger size: refuse the whole resize, or move its sets to
     * other hosts.
     */
    ifNoCapacity: z.enum(["refuse", "move"]).default("refuse"),
  })
  .refine(
    ({ cpu, memory, volume }) => [cpu, memory, volume].some((amount) => amount !== undefined),
    "expected at least one of cpu, memory and volume",
  )
  .meta({ id: "ResizeService" });
export type ResizeService = z.infer<typeof resizeServiceBody>;

/** The number of live sets in each state. */
export const serviceCountsSchema = z.strictObject({
  pending: z.number().int(),
  placed: z.number().int(),
  preparing: z.number().int(),
  starting: z.number().int(),
  running: z.number().int(),
  ready: z.number().int(),
  stopping: z.number().int(),
  stopped: z.number().int(),
  failed: z.number().int(),
  lost: z.number().int(),
});
export type ServiceCounts = z.infer<typeof serviceCountsSchema>;

export const serviceSchema = z
  .strictObject({
    id: idSchema("svc"),
    tenant: nameSchema,
    name: nameSchema,
    generation: generationSchema,
    /** The current revision of the template, which new sets have. */
    revision: z.number().int().positive(),
    /** The desired revision. While it is newer than `revision`, it waits for a rollout. */
    targetRevision: z.number().int().positive(),
    /** The number of sets with the target revision. */
    updatedSets: z.number().int().nonnegative(),
    /** The size of new sets. A resize changes it without a new revision. */
    size: z.strictObject({
      cpuMillis: z.number().int(),
      memoryBytes: z.number().int(),
      volumeBytes: z.number().int(),
    }),
    /** The requested number of sets, which demands of alerts increase. */
    replicas,
    /** The current target: the replicas plus the demands, within the bounds of `autoscale`. */
    desiredReplicas: replicas,
    priority: z.number().int(),
    /** The template of the target revision, with the size of new sets. */
    template: setTemplateSchema,
    placement: placementSpecSchema,
    onHostLost: z.enum(hostLostPolicies),
    autoscale: orNull(autoscaleSpecSchema),
    disruption: disruptionBudgetSchema,
    counts: serviceCountsSchema,
    /**
     * The desired number of sets is ready with its size, and no set is starting, stopping, moving
     * or lost. False while the target revision waits for a rollout.
     */
    settled: z.boolean(),
    /** The most frequent reason of sets that are not in their desired state. */
    reason: reasonSchema.nullable(),
    deleting: z.boolean(),
    createdAt: timestamp,
    updatedAt: timestamp,
  })
  .meta({ id: "Service" });
export type Service = z.infer<typeof serviceSchema>;

/** The answer to a change: the service, and the effects in sentences. */
export const serviceChangeSchema = z
  .strictObject({ service: serviceSchema, effects: z.array(z.string()) })
  .meta({ id: "ServiceChange" });
export type ServiceChange = z.infer<typeof serviceChangeSchema>;

const timeoutSeconds = z.coerce.number().int().min(0).max(WAIT_SECONDS_MAX).default(30);
/**
 * settled: see Service.settled. deleted: the service no longer exists. The answer is always 200;
 * `reached` shows whether the condition is met.
 */
export const waitServiceQuery = z.object({
  for: z.enum(["settled", "deleted"]).default("settled"),
  timeoutSeconds,
});
export const waitServiceResult = z
  .strictObject({ reached: z.boolean(), service: orNull(serviceSchema) })
  .meta({ id: "ServiceWait" });
export const waitSetTimeout = timeoutSeconds;
