import { z } from "zod";
import { idSchema, orNull, reasonSchema } from "../common/primitives.ts";
import { addressSchema } from "../network-driver/network-state.ts";

/** The name of a feature of an agent: see agent-features.ts. */
export const featureSchema = z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/);

export const dockerFactsSchema = z.strictObject({
  version: z.string().max(64),
  imageStore: z
    .string()
    .max(64)
    .describe(
      "The storage driver of the daemon, such as `overlay2`, or its containerd snapshotter.",
    ),
  cgroupDriver: z.string().max(32),
  cgroupVersion: z.number().int().min(1).max(9),
});

export const selfTestSchema = z.strictObject({
  state: z
    .enum(["passed", "failed", "reported", "off"])
    .describe(
      "`failed`: the host takes no new sets. `reported`: the test failed, and `BERTH_AGENT_SELF_TEST=report` of the agent lets the host take new sets. `off`: the agent runs no self test.",
    ),
  reason: reasonSchema.nullable().describe("Why the test failed. Null without a failed test."),
});
export type SelfTest = z.infer<typeof selfTestSchema>;

export const OTHER_HOSTS_MAX = 16;

export const otherHostVolumesSchema = z.strictObject({
  hostId: idSchema("host"),
  volumes: z.number().int().min(1),
});
export type OtherHostVolumes = z.infer<typeof otherHostVolumesSchema>;

export const hostCapabilitiesSchema = z
  .strictObject({
    features: z
      .array(featureSchema)
      .describe(
        "The features of the agent. Berth places a set only where the agent has all that it needs.",
      ),
    docker: dockerFactsSchema.nullable().describe("Null until the agent has read them."),
    setsMax: z
      .number()
      .int()
      .min(0)
      .nullable()
      .describe(
        "The number of sets above which no container starts on the machine, for example for lack of addresses of Docker's bridge. Null if unknown.",
      ),
    selfTest: selfTestSchema.nullable().describe("Null until the first self test has ended."),
    otherHostVolumes: z
      .array(otherHostVolumesSchema)
      .max(OTHER_HOSTS_MAX)
      .nullable()
      .describe(
        "The number of volumes on the machine that belong to other hosts. The host can adopt those of a deleted host. Null until the agent has read them.",
      ),
    tunnelAddress: addressSchema
      .nullable()
      .describe("The address at which other hosts reach the sets of this one. Null without one."),
    hostAddress: addressSchema
      .nullable()
      .describe(
        "The address at which clients reach the published ports of sets. Null without one.",
      ),
  })
  .meta({ id: "HostCapabilities" });
export type HostCapabilities = z.infer<typeof hostCapabilitiesSchema>;

export const hostCapabilitiesOrNull = orNull(hostCapabilitiesSchema);
