import { z } from "zod";

const TMPFS_PER_CONTAINER_MAX = 8;
const EXTRA_HOSTS_MAX = 64;
const OPEN_FILES_MAX = 1_048_576;
const LOG_FILE_BYTES_MIN = 64 * 2 ** 10;
const LOG_FILES_MAX = 20;
/** Logs are on Docker's disk, and no quota counts them. */
const LOG_BYTES_MAX = 256 * 2 ** 20;

/** Linux capabilities, without their prefix CAP_. */
export const capabilities = [
  "AUDIT_CONTROL",
  "AUDIT_READ",
  "AUDIT_WRITE",
  "BLOCK_SUSPEND",
  "BPF",
  "CHECKPOINT_RESTORE",
  "CHOWN",
  "DAC_OVERRIDE",
  "DAC_READ_SEARCH",
  "FOWNER",
  "FSETID",
  "IPC_LOCK",
  "IPC_OWNER",
  "KILL",
  "LEASE",
  "LINUX_IMMUTABLE",
  "MAC_ADMIN",
  "MAC_OVERRIDE",
  "MKNOD",
  "NET_ADMIN",
  "NET_BIND_SERVICE",
  "NET_BROADCAST",
  "NET_RAW",
  "PERFMON",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYSLOG",
  "SYS_ADMIN",
  "SYS_BOOT",
  "SYS_CHROOT",
  "SYS_MODULE",
  "SYS_NICE",
  "SYS_PACCT",
  "SYS_PTRACE",
  "SYS_RAWIO",
  "SYS_RESOURCE",
  "SYS_TIME",
  "SYS_TTY_CONFIG",
  "WAKE_ALARM",
] as const;
export type Capability = (typeof capabilities)[number];

/** Docker's default without NET_RAW, with which a container can take over addresses of others. */
export const capabilitiesAllowedByDefault: readonly Capability[] = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "MKNOD",
  "NET_BIND_SERVICE",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
];

const capability = z.enum(capabilities);

/**
 * Limits that cannot harm other containers. Priorities, such as rtprio, are not among them: they
 * would let a container take CPU time from others.
 */
const ulimitNames = [
  "core",
  "cpu",
  "data",
  "fsize",
  "locks",
  "memlock",
  "msgqueue",
  "nofile",
  "nproc",
  "sigpending",
  "stack",
] as const;

const ulimitValue = z.number().int().min(-1).max(Number.MAX_SAFE_INTEGER);
const ulimit = z
  .strictObject({ soft: ulimitValue, hard: ulimitValue })
  .refine(
    ({ soft, hard }) => hard === -1 || (soft !== -1 && soft <= hard),
    "expected a soft limit of at most the hard limit",
  );

const ulimits = z
  .partialRecord(z.enum(ulimitNames), ulimit)
  .refine(
    ({ nofile }) => !nofile || (nofile.hard !== -1 && nofile.hard <= OPEN_FILES_MAX),
    `expected a hard limit of nofile from 0 to ${OPEN_FILES_MAX}`,
  )
  .describe("Resource limits of each process. -1 means unlimited.");

/** Options of a container that the input and the stored template have alike. */
export const isolationOptions = {
  init: z
    .boolean()
    .optional()
    .describe(
      "Whether Docker's init is process 1 and reaps orphaned processes. By default it is, if the host has it.",
    ),
  readOnlyRootfs: z.boolean().optional().describe("Mounts the root file system read-only."),
  capAdd: z
    .array(capability)
    .max(capabilities.length)
    .optional()
    .describe("Capabilities that the container gets, if the operator permits them."),
  capDrop: z
    .array(z.enum(["ALL", ...capabilities]))
    .max(capabilities.length + 1)
    .optional()
    .describe("Capabilities that the container loses. By default it has Docker's without NET_RAW."),
  ulimits: ulimits.optional(),
};

/** Names that resolve to fixed addresses in all containers of a set. */
export const extraHosts = z
  .record(
    z
      .string()
      .max(253)
      .regex(/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/, "expected a host name"),
    z.union([z.ipv4(), z.ipv6()]),
  )
  .refine(
    (hosts) => Object.keys(hosts).length <= EXTRA_HOSTS_MAX,
    `expected at most ${EXTRA_HOSTS_MAX} names`,
  );

/** Temporary file systems in memory, of at most `sizeSchema` bytes each. */
export function tmpfsList<Size extends string, Schema extends z.ZodType>(
  mountPath: z.ZodType<string>,
  size: Record<Size, Schema>,
) {
  return z.array(z.strictObject({ mountPath, ...size })).max(TMPFS_PER_CONTAINER_MAX);
}

const logging = {
  driver: z.enum(["json-file", "local"]).default("json-file"),
  maxFiles: z.number().int().min(1).max(LOG_FILES_MAX).default(2),
};
const logFileBytes = z.number().int().min(LOG_FILE_BYTES_MIN);
const logFileBytesDefault = 10 * 2 ** 20;

/** The log of a container in a request, with a size and its unit. */
export function loggingInput(size: z.ZodType<number>) {
  return z
    .strictObject({ ...logging, maxSize: size.pipe(logFileBytes).default(logFileBytesDefault) })
    .refine(
      ({ maxSize, maxFiles }) => maxSize * maxFiles <= LOG_BYTES_MAX,
      "expected at most 256Mi for all files together",
    )
    .describe("The log rotates at `maxSize`, and Docker retains `maxFiles` files.");
}

export const storedLogging = z.strictObject({ ...logging, maxSizeBytes: logFileBytes });
