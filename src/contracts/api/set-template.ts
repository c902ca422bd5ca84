import { templateNetworks as networks } from "./template-networks.ts";
import { z } from "zod";
import { BYTES_MAX } from "../common/parse-bytes.ts";
import { coresInput, sizeInput } from "../common/quantities.ts";
import { nameSchema } from "../common/primitives.ts";
import {
  extraHosts,
  isolationOptions,
  loggingInput,
  storedLogging,
  tmpfsList,
} from "./container-options.ts";
import {
  checkContainers,
  checkMounts,
  checkNetworks,
  checkSysctls,
  utf8Bytes,
} from "./check-template.ts";
import { checkPorts, templatePorts } from "./template-ports.ts";
import { argument, argv, health, hooks } from "./template-probes.ts";

export const CONTAINERS_PER_SET_MAX = 16;
const ENV_ENTRIES_MAX = 128;
const IMAGE_CHARS_MAX = 255;
/**
 * The response to an agent contains the template of each set of its host. With this limit, a
 * response with 2 x SETS_PER_HOST_MAX sets stays below the 64 MiB that an agent accepts.
 */
export const TEMPLATE_BYTES_MAX = 30 * 2 ** 10;
/** A smaller volume would consist mostly of the metadata of its file system. */
const VOLUME_BYTES_MIN = 16 * 2 ** 20;
const MEMORY_BYTES_MIN = 16 * 2 ** 20;
const SHM_BYTES_MIN = 2 ** 20;
const TMPFS_BYTES_MIN = 64 * 2 ** 10;
/** With a lower limit, a container needs minutes to read its own program. */
const IO_BYTES_PER_SECOND_MIN = 2 ** 20;
const IO_OPS_PER_SECOND_MIN = 10;
const IO_OPS_PER_SECOND_MAX = 1_000_000_000;

/**
 * An image reference: [registry/]name[:tag][@digest], in Docker's grammar (distribution/reference)
 * with a maximum length. The expression is unambiguous, so a text that does not match takes no
 * exponential time.
 */
export const imageReference = (() => {
  const host = "[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*";
  const registry = `${host}(?:\\.${host})*(?::[0-9]{1,5})?`;
  const part = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
  const tag = ":\\w[\\w.-]{0,127}";
  return z
    .string()
    .max(IMAGE_CHARS_MAX)
    .regex(
      new RegExp(`^(?:${registry}/)?${part}(?:/${part})*(?:${tag})?(?:@sha256:[a-f0-9]{64})?$`),
      'expected an image such as "menu:42" or "registry:5000/team/menu:42"',
    );
})();

const environment = z
  .record(
    z.string().regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/),
    z
      .string()
      .max(32_768)
      .refine((text) => !text.includes("\0"), "must not contain NUL"),
  )
  .refine(
    (env) => Object.keys(env).length <= ENV_ENTRIES_MAX,
    `expected at most ${ENV_ENTRIES_MAX} variables`,
  );

const restartPolicy = z.strictObject({
  on: z
    .enum(["always", "failure", "never"])
    .default("always")
    .describe("When an exited container restarts: always, after a failure only, or never."),
});

export const sharedOptions = {
  env: environment.default({}),
  command: argv.optional().describe("Replaces the image's entrypoint."),
  args: z
    .array(argument)
    .max(64)
    .optional()
    .describe("Replaces the image's command (the entrypoint's arguments)."),
  workingDir: z
    .string()
    .max(1024)
    .regex(/^\/[^\0]*$/)
    .optional(),
  user: z
    .string()
    .max(64)
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$/)
    .optional(),
  health: health.optional(),
  restart: restartPolicy.default({ on: "always" }),
  stopSignal: z
    .string()
    .regex(/^SIG[A-Z0-9+]{2,10}$/)
    .optional()
    .describe("Overrides the stop signal of the image. Without both it is SIGTERM."),
  stopTimeoutSeconds: z.number().int().min(0).max(600).default(10),
  hooks: hooks.optional(),
  serving: z
    .enum(["required", "optional"])
    .optional()
    .describe(
      "With `optional`, the set serves without this container. Once the set has run, its readiness ignores the container, and an update of it alone leaves the set in the endpoints. By default it is required.",
    ),
  ...isolationOptions,
};

const percent = z.number().int().min(1).max(100);

const drainSeconds = z
  .number()
  .int()
  .min(0)
  .max(600)
  .describe(
    "The time between the removal of the set from the endpoints and the stop of its containers. By default 3 with ports, otherwise 0.",
  );

const sysctls = z
  .record(
    z
      .string()
      .max(128)
      .regex(
        /^(net|kernel\.(msg|sem|shm)|fs\.mqueue)[a-z0-9_.]*$/,
        "expected a namespaced sysctl (net.*, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.*)",
      ),
    z
      .string()
      .max(128)
      .regex(/^[\w .\t-]*$/),
  )
  .refine((entries) => Object.keys(entries).length <= 64, "expected at most 64 sysctls");

const absolutePath = z
  .string()
  .max(255)
  .regex(/^(\/[A-Za-z0-9._-]+)+$/, "expected an absolute path such as /data");
const mountPath = absolutePath
  .refine(
    (path) => !path.split("/").some((part) => part === "." || part === ".."),
    "must not contain . or ..",
  )
  .refine((path) => !/^\/(proc|sys|dev)(\/|$)/.test(path), "must not lie in /proc, /sys or /dev");

export const memoryInput = sizeInput.pipe(
  z.number().min(MEMORY_BYTES_MIN, "expected at least 16Mi"),
);
export const volumeSizeInput = sizeInput.pipe(
  z.number().min(VOLUME_BYTES_MIN, "expected at least 16Mi"),
);

const bytesPerSecondInput = sizeInput.pipe(
  z.number().min(IO_BYTES_PER_SECOND_MIN, "expected at least 1Mi"),
);
const bytesPerSecond = z.number().int().min(IO_BYTES_PER_SECOND_MIN).max(BYTES_MAX);
const opsPerSecond = z.number().int().min(IO_OPS_PER_SECOND_MIN).max(IO_OPS_PER_SECOND_MAX);

/** An absent member means no limit. */
const ioInput = z
  .strictObject({
    readBytesPerSecond: bytesPerSecondInput.optional(),
    writeBytesPerSecond: bytesPerSecondInput.optional(),
    readOpsPerSecond: opsPerSecond.optional(),
    writeOpsPerSecond: opsPerSecond.optional(),
  })
  .refine((io) => Object.keys(io).length > 0, "expected at least one limit");

/** A set template of a request: cores, sizes with units, percentages. Parses to SetTemplate. */
export const setTemplateInput = z
  .strictObject({
    cpu: coresInput,
    memory: memoryInput,
    rootfs: sizeInput.default(10 * 2 ** 30),
    io: ioInput.optional().describe("Limits for each block device that the set uses."),
    volume: z
      .strictObject({
        size: volumeSizeInput,
        mountPath,
      })
      .optional(),
    shm: sizeInput
      .pipe(z.number().min(SHM_BYTES_MIN, "expected at least 1Mi"))
      .optional()
      .describe(
        "The size of /dev/shm, which the containers share. By default half of the memory, and at least 64Mi.",
      ),
    extraHosts: extraHosts.optional(),
    sysctls: sysctls.default({}),
    networks: networks.default([{ network: "default" }]),
    ports: templatePorts.optional(),
    drainSeconds: drainSeconds.optional(),
    containers: z
      .array(
        z.strictObject({
          index: z.number().int().min(0).max(99),
          name: nameSchema,
          image: imageReference,
          options: z.strictObject({
            cpu: percent,
            memory: percent,
            ...sharedOptions,
            tmpfs: tmpfsList(mountPath, { size: sizeInput.pipe(z.number().min(TMPFS_BYTES_MIN)) })
              .optional()
              .describe("File systems in memory. Their files count as memory of the container."),
            logging: loggingInput(sizeInput).optional(),
          }),
        }),
      )
      .min(1)
      .max(CONTAINERS_PER_SET_MAX),
  })
  .superRefine((template, context) => {
    const addIssue = (path: (string | number)[], message: string) =>
      context.addIssue({ code: "custom", path, message });
    checkContainers(
      template.containers.map((container) => ({
        name: container.name,
        memoryPercent: container.options.memory,
        serving: container.options.serving,
      })),
      addIssue,
    );
    checkNetworks(template.networks, addIssue);
    checkPorts(template.ports ?? [], addIssue);
    checkMounts(template, addIssue);
    checkSysctls(Object.keys(template.sysctls), addIssue);
    const bytes = utf8Bytes(JSON.stringify(template));
    if (bytes > TEMPLATE_BYTES_MAX)
      addIssue(
        [],
        `takes ${bytes} bytes as JSON, expected at most ${TEMPLATE_BYTES_MAX}: store long values in a file of the image or of a volume`,
      );
  })
  .transform((template): SetTemplate => ({
    cpuMillis: template.cpu,
    memoryBytes: template.memory,
    rootfsBytes: template.rootfs,
    ...(template.io ? { io: template.io } : {}),
    volume: template.volume
      ? { sizeBytes: template.volume.size, mountPath: template.volume.mountPath }
      : null,
    ...(template.shm === undefined ? {} : { shmBytes: template.shm }),
    ...(template.extraHosts ? { extraHosts: template.extraHosts } : {}),
    sysctls: template.sysctls,
    networks: template.networks,
    ...(template.ports ? { ports: template.ports } : {}),
    ...(template.drainSeconds === undefined ? {} : { drainSeconds: template.drainSeconds }),
    containers: template.containers
      .map(({ options: { cpu, memory, tmpfs, logging, ...options }, ...container }) => ({
        ...container,
        options: {
          cpuPercent: cpu,
          memoryPercent: memory,
          ...options,
          ...(tmpfs
            ? {
                tmpfs: tmpfs.map(({ mountPath: path, size }) => ({
                  mountPath: path,
                  sizeBytes: size,
                })),
              }
            : {}),
          ...(logging ? { logging: toStoredLogging(logging) } : {}),
        },
      }))
      .sort((a, b) => a.index - b.index),
  }))
  .meta({ id: "SetTemplateInput" });

/**
 * A set template as the database, the API's responses and the agents have it, with units in the
 * names. Only the input restricts images and mount paths. A value that an earlier version accepted
 * must not make an agent reject the sets of its host.
 */
export const setTemplateSchema = z
  .strictObject({
    cpuMillis: z.number().int().positive(),
    memoryBytes: z.number().int().positive().max(BYTES_MAX),
    rootfsBytes: z.number().int().nonnegative().max(BYTES_MAX),
    io: z
      .strictObject({
        readBytesPerSecond: bytesPerSecond.optional(),
        writeBytesPerSecond: bytesPerSecond.optional(),
        readOpsPerSecond: opsPerSecond.optional(),
        writeOpsPerSecond: opsPerSecond.optional(),
      })
      .optional()
      .describe("Absent in a template without limits, so that older agents accept the template."),
    volume: z
      .strictObject({ sizeBytes: z.number().int().positive(), mountPath: absolutePath })
      .nullable(),
    /** Like each option below, absent if unused, so that older agents accept the template. */
    shmBytes: z.number().int().positive().max(BYTES_MAX).optional(),
    extraHosts: extraHosts.optional(),
    sysctls,
    networks,
    ports: templatePorts.optional(),
    drainSeconds: drainSeconds.optional(),
    containers: z
      .array(
        z.strictObject({
          index: z.number().int(),
          name: nameSchema,
          image: z.string().max(IMAGE_CHARS_MAX),
          options: z.strictObject({
            cpuPercent: percent,
            memoryPercent: percent,
            ...sharedOptions,
            tmpfs: tmpfsList(absolutePath, { sizeBytes: z.number().int().positive() }).optional(),
            logging: storedLogging.optional(),
          }),
        }),
      )
      .min(1)
      .max(CONTAINERS_PER_SET_MAX),
  })
  .meta({ id: "SetTemplate" });

function toStoredLogging({
  maxSize,
  ...logging
}: z.infer<ReturnType<typeof loggingInput>>): z.infer<typeof storedLogging> {
  return { ...logging, maxSizeBytes: maxSize };
}

/** Docker's minimum. The set's own cgroup still limits the sum of its containers. */
const CONTAINER_MEMORY_BYTES_MIN = 6 * 2 ** 20;

/** The memory limit of a container of the set. */
export function containerMemoryBytes(
  { memoryBytes }: Pick<SetTemplate, "memoryBytes">,
  { memoryPercent }: { memoryPercent: number },
): number {
  return Math.max(CONTAINER_MEMORY_BYTES_MIN, Math.floor((memoryBytes * memoryPercent) / 100));
}

/**
 * A template with another size. A revision has the CPU and memory of its creation. A resize changes
 * the sizes of a service and of its sets without a new revision.
 */
export function templateWithSize(
  template: SetTemplate,
  size: { cpuMillis: number; memoryBytes: number; volumeBytes: number },
): SetTemplate {
  const { volume } = template;
  return {
    ...template,
    cpuMillis: size.cpuMillis,
    memoryBytes: size.memoryBytes,
    // A size without a volume leaves that of the template. A target revision has its own size.
    volume: volume && { ...volume, sizeBytes: size.volumeBytes || volume.sizeBytes },
  };
}

export type SetTemplate = z.infer<typeof setTemplateSchema>;
export type IoLimits = NonNullable<SetTemplate["io"]>;
export type ContainerTemplate = SetTemplate["containers"][number];
export type HealthCheck = NonNullable<ContainerTemplate["options"]["health"]>;
