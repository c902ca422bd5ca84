import { z } from "zod";
import { checkSubnets } from "../contracts/api/check-subnets.ts";
import { capabilities, capabilitiesAllowedByDefault } from "../contracts/api/container-options.ts";
import {
  defaultFixedHostPorts,
  defaultHostPortRange,
  parsePortRange,
  type PortRange,
} from "../contracts/common/port-ranges.ts";
import { SESSION_IDLE_SECONDS_DEFAULT } from "../contracts/api/sessions.ts";
import { SETS_PER_HOST_MAX } from "../contracts/agent-protocol/protocol.ts";
import { PUBLISHED_PORTS_PER_SET_MAX } from "../contracts/api/template-ports.ts";
import { isEncryptionKey } from "../lib/keyring.ts";
import { Secret } from "../lib/secret.ts";

/** A whole number within bounds. */
export function wholeNumber(least: number, most: number) {
  return z.coerce.number().int().min(least).max(most);
}

/** A secret that is too long to guess. */
export const secretText = z
  .string()
  .min(16, "expected at least 16 characters")
  // The API accepts a token of at most 256 characters.
  .max(256, "expected at most 256 characters")
  .regex(/^[\x21-\x7e]+$/, "expected printable ASCII without spaces")
  .transform((text) => new Secret(text));

/** Settings of every process. */
export const processSettings = {
  BERTH_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  /**
   * Deadline of a graceful shutdown. Set it below the time after which the supervisor kills the
   * process.
   */
  BERTH_SHUTDOWN_TIMEOUT_MS: wholeNumber(100, 600_000).default(15_000),
  /** Prints one line of JSON on standard output once the process serves. */
  BERTH_READY_JSON: z.stringbool().default(false),
};

/** A redis:// or rediss:// URL, or unix:// and the path of a socket. */
const redisUrl = z
  .string()
  .max(1_000)
  .regex(/^(rediss?|unix):\/\/./, "expected a redis://, rediss:// or unix:// URL")
  .transform(
    (text) => new Secret(text.startsWith("unix://") ? text.slice("unix://".length) : text),
  );

const DATABASE_HOSTS_MAX = 8;

/** Whether the text is a Postgres URL that is also valid with each of its hosts alone. */
function isPostgresUrl(text: string): boolean {
  const parts = /^(postgres(?:ql)?:\/\/(?:[^@/?#]*@)?)([^/?#]*)(.*)$/.exec(text);
  if (!parts) return false;
  const [, before = "", hosts = "", after = ""] = parts;
  const urls = hosts.split(",").map((host) => `${before}${host}${after}`);
  return urls.length <= DATABASE_HOSTS_MAX && urls.every((url) => URL.canParse(url));
}

/** Settings of processes that use Postgres and Redis. */
export const backendSettings = {
  /** Commas separate several hosts: `postgres://user@a:5432,b:5432/berth`. */
  DATABASE_URL: z
    .string()
    .max(2_000)
    .refine(isPostgresUrl, "expected a postgres:// URL")
    .transform((text) => new Secret(text)),
  REDIS_URL: redisUrl,
  /** Prefix of every key and channel, so that several installations may share a Redis. */
  BERTH_REDIS_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, "expected letters, digits, _ and -")
    .default("berth"),
  /**
   * Connections of this process. The sum over all processes must be below `max_connections` of
   * Postgres.
   */
  BERTH_DATABASE_CONNECTIONS_MAX: wholeNumber(5, 200).default(20),
  /** Postgres cancels a longer statement. Key reads and lists of users have at most 5 s. */
  BERTH_STATEMENT_TIMEOUT_MS: wholeNumber(1_000, 600_000).default(30_000),
};

const capabilityList = z
  .string()
  .max(1_000)
  .transform((text) => text.split(",").map((name) => name.trim()))
  .pipe(z.array(z.enum(capabilities, "expected names such as NET_RAW, without CAP_")));

const subnetList = z
  .string()
  .max(200)
  .transform((text, context) => {
    const subnets = text.split(",").map((cidr) => ({ cidr: cidr.trim() }));
    return checkSubnets(subnets, (_path, message) =>
      context.addIssue({ code: "custom", message, input: text }),
    );
  });

/** With as many, no host runs out of ports, however many sets with published ports it has. */
const HOST_PORTS_MIN = SETS_PER_HOST_MAX * PUBLISHED_PORTS_PER_SET_MAX;

const portRange = z.string().transform((text, context): PortRange => {
  const range = parsePortRange(text.trim());
  if (range) return range;
  context.addIssue({ code: "custom", message: "expected a port, or a range such as 8000-9999" });
  return z.NEVER;
});

const PORT_RANGES_MAX = 32;

const portRangeList = z
  .string()
  .max(500)
  .transform((text) => (text === "none" ? [] : text.split(",")))
  .pipe(z.array(portRange).max(PORT_RANGES_MAX));

const KEYS_MAX = 8;

/** Keys in base64, separated by commas, spaces or line ends. */
const encryptionKeyList = z
  .string()
  .max(1_000)
  .transform((text) => text.split(/[\s,]+/).filter((key) => key !== ""))
  .pipe(
    z
      .array(z.string().refine(isEncryptionKey, "expected the output of `openssl rand -base64 32`"))
      .min(1)
      .max(KEYS_MAX),
  )
  .transform((keys) => keys.map((key) => new Secret(key)));

/** Tolerances for silent hosts, and retention: see ControlSettings. */
export const fleetSettings = {
  /** Time after a host's lease expires in which it may return before Berth replaces its sets. */
  BERTH_HOST_LOST_GRACE_MS: wholeNumber(0, 86_400_000).default(30_000),
  /** If a larger share of a pool's hosts is lost together, Berth replaces none of their sets. */
  BERTH_LOST_HOSTS_PERCENT_MAX: wholeNumber(0, 100).default(30),
  /** Berth places no sets on a host whose last report is older. */
  BERTH_REPORT_AGE_MAX_MS: wholeNumber(5_000, 3_600_000).default(120_000),
  /**
   * Capabilities that templates may add, separated by commas. The default has Docker's own, without
   * NET_RAW. Others, such as SYS_ADMIN, may let a container take over its host.
   */
  BERTH_CAPABILITIES_ALLOWED: capabilityList.default([...capabilitiesAllowedByDefault]),
  /**
   * Keys that encrypt the registry credentials in the database. The first encrypts, and all
   * decrypt. Without a key, the API stores no credentials. A restored database needs the same keys.
   */
  BERTH_ENCRYPTION_KEYS: encryptionKeyList.optional(),
  /**
   * The subnet of the network `default` of each tenant: one of IPv4 or of IPv6, or both with a
   * comma. Tenants may have equal subnets. Networks that exist stay unchanged.
   */
  BERTH_DEFAULT_NETWORK_CIDR: subnetList.prefault("10.64.0.0/16"),
  /** The host ports from which Berth chooses published ports. No other program may use them. */
  BERTH_HOST_PORTS: portRange
    .refine(
      ({ first, last }) => last - first + 1 >= HOST_PORTS_MIN,
      `expected at least ${HOST_PORTS_MIN} ports`,
    )
    .default(defaultHostPortRange),
  /** The host ports that templates may fix: ports and ranges, separated by commas, or `none`. */
  BERTH_FIXED_HOST_PORTS: portRangeList.default([...defaultFixedHostPorts]),
  /** A session without a byte in either direction ends after this time. */
  BERTH_SESSION_IDLE_SECONDS: wholeNumber(10, 86_400).default(SESSION_IDLE_SECONDS_DEFAULT),
  /** Retention of deleted sets, services, hooks and tokens, with their dependent rows. */
  BERTH_DELETED_RETENTION_DAYS: wholeNumber(1, 3_650).default(30),
};

/** Settings of processes that serve the API. */
export const listenSettings = {
  /** By default only this machine can connect. Put a TLS proxy in front before you open it. */
  BERTH_HOST: z.string().min(1).max(255).default("127.0.0.1"),
  /** 0 means any free port. */
  BERTH_PORT: wholeNumber(0, 65_535).default(7460),
  /**
   * The URL of this process for the other processes of the API, which pass on sessions. The default
   * has the first address of the machine, and BERTH_PORT.
   */
  BERTH_API_INTERNAL_URL: z
    .url({ protocol: /^https?$/ })
    .max(500)
    .optional(),
  /**
   * An admin's secret. Without it and without an admin token, the first start creates one and shows
   * it once.
   */
  BERTH_ADMIN_TOKEN: secretText.optional(),
};
