import { z } from "zod";

/** The answer of the network driver to `GET /v1/status`. */
export const driverStatusSchema = z.object({
  version: z.string(),
  /** True if the switch answers and its ports and flows match the driver's records. */
  isReady: z.boolean(),
  /** Why the driver is not ready: a sentence for operators. Null if it is. */
  reason: z.string().nullable(),
  networks: z.number().int().nonnegative(),
  endpoints: z.number().int().nonnegative(),
  flows: z.number().int().nonnegative(),
  /**
   * The name server of the host. Off: the host has none, or the reason says why it has never
   * answered. Down: it does not answer, or not with the latest names. It does not affect `isReady`.
   * A driver of an earlier release has none.
   */
  names: z
    .object({ state: z.enum(["off", "up", "down"]), reason: z.string().nullable() })
    .default({ state: "off", reason: null }),
  /** The version of the stored network state. Null before the first one. */
  networkStateVersion: z.number().int().nonnegative().nullable(),
  /** Whether the driver publishes ports of sets. That of an earlier release does not say so. */
  publishesPorts: z.boolean().default(false),
  /** Whether the driver knows gateways. That of an earlier release does not say so. */
  knowsGateways: z.boolean().default(false),
  /**
   * Published ports at which another program of the host listens, such as `20001/tcp`. Other
   * machines reach that program, and not the set. They do not affect `isReady`.
   */
  takenPorts: z.array(z.string()).default([]),
  /**
   * Why connections that must end are still open after three attempts: those that changed rules
   * forbid, and those to deleted sets. Null if there are none. It does not affect `isReady`.
   */
  connectionsReason: z.string().nullable().default(null),
  /** Interfaces of running containers that the driver can neither identify nor remove. */
  unknownInterfaces: z.array(z.string()),
});

export type DriverStatus = z.output<typeof driverStatusSchema>;
