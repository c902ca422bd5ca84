import { z } from "zod";
import { Secret } from "../lib/secret.ts";

/** A whole number within bounds. */
export function wholeNumber(least: number, most: number) {
  return z.coerce.number().int().min(least).max(most);
}

/** Long enough not to be guessed. */
export const secretText = z
  .string()
  .min(16, "expected at least 16 characters")
  .max(512)
  .regex(/^[\x21-\x7e]+$/, "expected printable ASCII without spaces")
  .transform((text) => new Secret(text));

/** Of every process. */
export const processSettings = {
  BERTH_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  /** What is under way when the process is asked to stop gets this long. Below what ends it by force. */
  BERTH_SHUTDOWN_TIMEOUT_MS: wholeNumber(100, 600_000).default(15_000),
  /** Prints one line of JSON on standard output once the process serves. */
  BERTH_READY_JSON: z.stringbool().default(false),
};

/** A redis:// or rediss:// address, or unix:// and the path of a socket. */
const redisUrl = z
  .string()
  .max(1_000)
  .regex(/^(rediss?|unix):\/\/./, "expected a redis://, rediss:// or unix:// URL")
  .transform(
    (text) => new Secret(text.startsWith("unix://") ? text.slice("unix://".length) : text),
  );

/** Of processes that talk to Postgres and Redis. */
export const backendSettings = {
  DATABASE_URL: z
    .url({ protocol: /^postgres(ql)?$/, error: "expected a postgres:// URL" })
    .transform((text) => new Secret(text)),
  REDIS_URL: redisUrl,
  /** Begins every key and channel, so that several Berths may share a Redis. */
  BERTH_REDIS_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, "expected letters, digits, _ and -")
    .default("berth"),
  /** Connections of this process. The sum over all processes must stay below `max_connections` of Postgres. */
  BERTH_DATABASE_CONNECTIONS_MAX: wholeNumber(5, 200).default(20),
  /** Postgres cancels a statement that runs longer. Key reads and lists of users have 5 s at most. */
  BERTH_STATEMENT_TIMEOUT_MS: wholeNumber(1_000, 600_000).default(30_000),
};

/** How careful Berth is with hosts that are silent, and how long it remembers: see ControlSettings. */
export const fleetSettings = {
  /** After its lease ran out a host may come back for so long before its sets are replaced. */
  BERTH_HOST_LOST_GRACE_MS: wholeNumber(0, 86_400_000).default(30_000),
  /** More of a pool's hosts lost at once, and nothing is replaced. */
  BERTH_LOST_HOSTS_PERCENT_MAX: wholeNumber(0, 100).default(30),
  /** A host whose last report is older takes nothing new. */
  BERTH_REPORT_AGE_MAX_MS: wholeNumber(5_000, 3_600_000).default(120_000),
  /** Deleted sets, services, hooks and tokens are forgotten after so many days, with what hangs on them. */
  BERTH_DELETED_RETENTION_DAYS: wholeNumber(1, 3_650).default(30),
};

/** Of processes that serve the API. */
export const listenSettings = {
  /** This machine only, unless said otherwise: put something that speaks TLS in front first. */
  BERTH_HOST: z.string().min(1).max(255).default("127.0.0.1"),
  /** 0: any free one. */
  BERTH_PORT: wholeNumber(0, 65_535).default(7460),
  /** An admin's secret. Without it one is made when there is no admin token yet, and told once. */
  BERTH_ADMIN_TOKEN: secretText.optional(),
};
