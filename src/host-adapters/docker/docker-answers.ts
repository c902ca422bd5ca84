import { z } from "zod";
import { AgentError, type AgentPhase } from "../../agent/base/agent-error.ts";

/**
 * The parts of Docker's answers that the agent reads. Docker may add members, and omits empty ones
 * in some versions. A member that the agent cannot do without is required, so that another answer
 * is an error and not a wrong fact.
 */

/** Docker encodes an empty list or map as null. */
const labelsSchema = z
  .record(z.string(), z.string())
  .nullish()
  .transform((labels) => labels ?? {});

const networkAddressesSchema = z.object({
  IPAddress: z.string().default(""),
  GlobalIPv6Address: z.string().default(""),
});

const networksSchema = z.object({
  Networks: z
    .record(z.string(), networkAddressesSchema.nullable())
    .nullish()
    .transform((networks) => networks ?? {}),
});

const referencesSchema = z
  .array(z.string())
  .nullish()
  .transform((references) => references ?? []);

export const versionAnswer = z.object({
  ApiVersion: z.string(),
  MinAPIVersion: z.string().optional(),
});

export const infoAnswer = z.object({
  CgroupDriver: z.string().optional(),
  CgroupVersion: z.string().optional(),
  DockerRootDir: z.string().optional(),
  /** The storage driver, or the snapshotter with containerd's image store. */
  Driver: z.string().optional(),
  ServerVersion: z.string().optional(),
  DriverStatus: z.array(z.array(z.string())).nullish(),
  /** Docker 27 (API 1.46) and newer report it. */
  Containerd: z.object({ Address: z.string().optional() }).nullish(),
  /** Its id is "N/A" if Docker cannot execute its init. */
  InitCommit: z.object({ ID: z.string().optional() }).nullish(),
});

export const containersAnswer = z.array(
  z.object({
    Id: z.string().min(12),
    ImageID: z.string().default(""),
    Labels: labelsSchema,
    State: z.string(),
    HostConfig: z.object({ NetworkMode: z.string().default("") }),
    NetworkSettings: networksSchema.nullish(),
  }),
);

export type ListedAnswer = z.output<typeof containersAnswer>[number];

const count = z.number().optional();

export const inspectAnswer = z.object({
  Id: z.string(),
  State: z.object({
    Status: z.string(),
    Running: z.boolean(),
    StartedAt: z.string(),
    FinishedAt: z.string(),
    ExitCode: z.number(),
    OOMKilled: z.boolean().default(false),
    Pid: z.number(),
  }),
  HostConfig: z.object({
    CpuQuota: count,
    CpuPeriod: count,
    CpuShares: count,
    Memory: count,
    MemoryReservation: count,
    PidsLimit: count.nullable(),
    Binds: z.array(z.string()).nullish(),
    CgroupParent: z.string().optional(),
    NetworkMode: z.string().optional(),
    Init: z.boolean().nullish(),
  }),
  NetworkSettings: networksSchema,
});
export type InspectAnswer = z.output<typeof inspectAnswer>;

export const imageAnswer = z.object({
  Id: z.string(),
  RepoTags: referencesSchema,
  RepoDigests: referencesSchema,
});
export const imagesAnswer = z.array(imageAnswer);

/** The members that API 1.41 to 1.51 have, without volumes and build caches. */
export const diskAnswer = z.object({
  LayersSize: z.number().default(0),
  Containers: z
    .array(
      z.object({
        Id: z.string(),
        SizeRw: z.number().default(0),
        Labels: labelsSchema,
        Mounts: z
          .array(z.object({ Type: z.string().default(""), Name: z.string().default("") }))
          .nullish(),
      }),
    )
    .nullish(),
});

/** Parses an answer of Docker. Throws an AgentError that names the call and the members. */
export function parseAnswer<Schema extends z.ZodType>(
  schema: Schema,
  answer: unknown,
  { call, phase }: { call: string; phase: AgentPhase },
): z.output<Schema> {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues
    .slice(0, 3)
    .map(({ path, message }) => `${path.join(".")}: ${message}`);
  const message = `Docker's answer to "${call}" is not what this agent expects (${problems.join("; ")}). Use a version of Docker that it supports.`;
  throw new AgentError("docker-error", message, { phase, temporary: true });
}
