import { z } from "zod";
import { rolloutStrategyInput } from "./rollouts.ts";
import { REPLICAS_MAX, WAIT_SECONDS_MAX } from "../common/limits.ts";
import {
  generationSchema,
  idSchema,
  nameSchema,
  orNull,
  reasonSchema,
  timestamp,
} from "../common/primitives.ts";
import { checkGatewayPorts, gatewayPortsSchema } from "./gateways.ts";
import { coresInput } from "../common/quantities.ts";
import { disruptionBudgetSchema } from "./disruption-budget.ts";
import { placementSpecSchema } from "./placement-spec.ts";
import {
  memoryInput,
  setTemplateInput,
  setTemplateSchema,
  volumeSizeInput,
} from "./set-template.ts";

const replicas = z.number().int().min(0).max(REPLICAS_MAX);

const paceSeconds = z.number().int().min(0).max(86_400);

export const autoscaleSpecSchema = z
  .strictObject({
    min: replicas,
    max: replicas,
    scaleIn: z
      .strictObject({
        step: z.number().int().min(1).max(REPLICAS_MAX).optional(),
        everySeconds: paceSeconds.default(60),
      })
      .optional()
      .describe(
        "After demands are released, Berth removes at most `step` sets every `everySeconds`, and decides again before each step. Default: a tenth of the sets, at least one, every 60 seconds.",
      ),
    scaleOut: z
      .strictObject({ cooldownSeconds: paceSeconds })
      .optional()
      .describe(
        "Alerts may add another step when the sets of the last step are ready, or after this time. Default: 60 seconds.",
      ),
    metrics: z
      .array(
        z.strictObject({
          type: z.enum(["cpu", "memory"]),
          target: z.number().int().min(1).max(100),
        }),
      )
      .max(8)
      .default([])
      .describe("Must be empty, because Berth does not collect metrics yet."),
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

export const STATIC_ADDRESS_TEXT =
  "The template has a static address, and two sets cannot have one address. Use at most one replica, or omit the address.";

const serviceExample = {
  name: "menu-web",
  replicas: 3,
  template: {
    cpu: 2,
    memory: "4Gi",
    containers: [
      { index: 0, name: "app", image: "menu:42", options: { cpu: 80, memory: 75 } },
      { index: 1, name: "proxy", image: "proxy:7", options: { cpu: 20, memory: 25 } },
    ],
  },
  placement: { spread: [{ by: "zone" }] },
};

/** `POST /v1/services`. */
export const createServiceBody = z
  .strictObject({
    name: nameSchema,
    replicas: replicas.default(1),
    priority: z
      .number()
      .int()
      .min(0)
      .max(1000)
      .default(100)
      .describe("Sets with a higher priority are placed first."),
    template: setTemplateInput,
    placement: placementSpecSchema.prefault({}),
    onHostLost: z
      .enum(hostLostPolicies)
      .optional()
      .describe(
        "replace: new sets replace the sets of a lost host. wait: sets wait for their host. replace-without-data: as replace, and sets with a volume start elsewhere with an empty volume. Default: wait for a template with a volume, else replace.",
      ),
    autoscale: orNull(autoscaleSpecSchema).default(null),
    disruption: disruptionBudgetSchema.prefault({}),
    gatewayPorts: gatewayPortsSchema.default([]),
  })
  .superRefine((service, context) => {
    const { autoscale, gatewayPorts, template } = service;
    checkGatewayPorts(gatewayPorts, template.ports ?? [], (path, message) =>
      context.addIssue({ code: "custom", path, message }),
    );
    if (service.template.networks.some(({ address }) => address !== undefined)) {
      const message = STATIC_ADDRESS_TEXT;
      if (service.replicas > 1) context.addIssue({ code: "custom", path: ["replicas"], message });
      if (autoscale && autoscale.max > 1)
        context.addIssue({ code: "custom", path: ["autoscale", "max"], message });
    }
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
  .meta({ id: "CreateService", examples: [serviceExample] });
export type CreateService = z.infer<typeof createServiceBody>;

/** `PATCH /v1/services/{name}`: omitted members stay unchanged. `scale` changes the replicas. */
export const patchServiceBody = z
  .strictObject({
    priority: z.number().int().min(0).max(1000).optional(),
    template: setTemplateInput.optional(),
    placement: placementSpecSchema.optional(),
    onHostLost: z.enum(hostLostPolicies).optional(),
    autoscale: orNull(autoscaleSpecSchema).optional(),
    disruption: disruptionBudgetSchema.optional(),
    gatewayPorts: gatewayPortsSchema.optional(),
    adopt: z
      .enum(["new-sets", "rollout"])
      .optional()
      .describe(
        "Default: a changed template becomes the target revision, which waits for a rollout. `new-sets`: the target revision becomes the current revision of new sets; existing sets stay unchanged. `rollout`: a rollout to the target revision starts.",
      ),
    ifActive: z
      .enum(["reject", "supersede"])
      .optional()
      .describe(
        "Whether the rollout of `adopt` takes the place of an active one. Default: reject.",
      ),
    rollout: orNull(rolloutStrategyInput)
      .optional()
      .describe("How rollouts of the service proceed. Null for the default."),
  })
  .refine((patch) => Object.keys(patch).length > 0, "expected at least one member to change")
  .meta({ id: "PatchService" });
export type PatchService = z.infer<typeof patchServiceBody>;

/** `POST /v1/services/{name}/scale`: an absolute number, so a repeated request changes nothing. */
export const scaleServiceBody = z.strictObject({ replicas }).meta({ id: "ScaleService" });

/**
 * `POST /v1/services/{name}/resize`: absolute amounts for each set. Omitted amounts stay unchanged.
 */
export const resizeServiceBody = z
  .strictObject({
    cpu: coresInput.optional(),
    memory: memoryInput.optional(),
    volume: volumeSizeInput.optional().describe("A volume cannot shrink."),
    ifNoCapacity: z
      .enum(["refuse", "move"])
      .default("refuse")
      .describe(
        "If a host has no capacity for the larger size: refuse the whole resize, or move its sets to other hosts.",
      ),
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

/** The stable addresses of a service in a network: at most one of each family. */
const serviceAddressesSchema = z
  .strictObject({ network: nameSchema, addresses: z.array(z.string()).min(1).max(2) })
  .meta({ id: "ServiceAddresses" });

export const serviceSchema = z
  .strictObject({
    id: idSchema("svc"),
    tenant: nameSchema,
    name: nameSchema,
    generation: generationSchema,
    revision: z
      .number()
      .int()
      .positive()
      .describe("The current revision of the template, which new sets have."),
    targetRevision: z
      .number()
      .int()
      .positive()
      .describe("The desired revision. While it is newer than `revision`, it waits for a rollout."),
    updatedSets: z
      .number()
      .int()
      .nonnegative()
      .describe("The number of sets with the target revision."),
    size: z
      .strictObject({
        cpuMillis: z.number().int(),
        memoryBytes: z.number().int(),
        volumeBytes: z.number().int(),
      })
      .describe("The size of new sets. A resize changes it without a new revision."),
    replicas: replicas.describe(
      "The number of sets that users requested. Demands of alerts do not change it.",
    ),
    desiredReplicas: replicas.describe(
      "The current target: the larger of `replicas` and the largest demand, within the bounds of `autoscale`.",
    ),
    priority: z.number().int(),
    /** The template of the target revision, with the size of new sets. */
    template: setTemplateSchema,
    placement: placementSpecSchema,
    onHostLost: z.enum(hostLostPolicies),
    autoscale: orNull(autoscaleSpecSchema),
    disruption: disruptionBudgetSchema,
    gatewayPorts: gatewayPortsSchema,
    counts: serviceCountsSchema,
    settled: z
      .boolean()
      .describe(
        "The desired number of sets is ready with its size, and no set is starting, stopping, moving or lost. False while the target revision waits for a rollout.",
      ),
    reason: reasonSchema
      .nullable()
      .describe("The most frequent reason of sets that are not in their desired state."),
    addresses: z
      .array(serviceAddressesSchema)
      .describe(
        "The service addresses, by network. Berth assigns them within seconds. Empty without a host that has the feature `networks`. A network is missing if its subnets have no free address.",
      ),
    deleting: z.boolean(),
    createdAt: timestamp,
    updatedAt: timestamp,
  })
  .meta({ id: "Service" });
export type Service = z.infer<typeof serviceSchema>;

/** The response to a change: the service, and the effects in sentences. */
export const serviceChangeSchema = z
  .strictObject({ service: serviceSchema, effects: z.array(z.string()) })
  .meta({ id: "ServiceChange" });
export type ServiceChange = z.infer<typeof serviceChangeSchema>;

const timeoutSeconds = z.coerce.number().int().min(0).max(WAIT_SECONDS_MAX).default(30);
/**
 * settled: see Service.settled. deleted: the service no longer exists. The status is always 200;
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
