import { z } from "zod";
import { labelsSchema, nameSchema } from "../contracts/common/primitives.ts";
import { processSettings, secretText, wholeNumber } from "./common-settings.ts";
import { type Env, parseEnv } from "./parse-env.ts";

/** "disk=ssd,row=7" as labels. */
const labelList = z
  .string()
  .max(8_192)
  .transform((text, context) => {
    const pairs = text.split(",").filter((pair) => pair.trim() !== "");
    const entries = pairs.map((pair) => {
      const [key = "", ...value] = pair.split("=");
      return [key.trim(), value.join("=").trim()];
    });
    const labels = labelsSchema.safeParse(Object.fromEntries(entries));
    if (labels.success) return labels.data;
    context.addIssue({ code: "custom", message: "expected labels such as disk=ssd,row=7" });
    return z.NEVER;
  });

const reservePercent = wholeNumber(0, 90).default(5);
const path = z.string().min(1).max(1_000);

/** Of the agent alone; an all-in-one process takes them too. */
const agentSettings = {
  /** What it is to remember: who this host is, and what it should run. Not to be shared between hosts. */
  BERTH_AGENT_DATA_DIR: path.default("/var/lib/berth-agent"),
  /** How the host is called; without it, the machine's host name. */
  BERTH_AGENT_NAME: nameSchema.optional(),
  /** Failure domains, for spreading sets. */
  BERTH_AGENT_ZONE: nameSchema.default("default"),
  BERTH_AGENT_RACK: nameSchema.default("default"),
  BERTH_AGENT_LABELS: labelList.prefault(""),
  /** Shares of the machine that sets may not have: for the system, Docker and the agent. */
  BERTH_AGENT_RESERVE_CPU_PERCENT: reservePercent,
  BERTH_AGENT_RESERVE_MEMORY_PERCENT: reservePercent,
  BERTH_AGENT_RESERVE_ROOTFS_PERCENT: reservePercent,
  /** A host whose usage is not known for two minutes takes nothing new, so this stays well below. */
  BERTH_AGENT_USAGE_INTERVAL_MS: wholeNumber(1_000, 60_000).default(15_000),
  /** Steps of different sets at a time, and container starts within them: Docker does no more at once. */
  BERTH_AGENT_STEPS_MAX: wholeNumber(1, 1_000).default(64),
  BERTH_AGENT_STARTS_MAX: wholeNumber(1, 100).default(8),
  /**
   * Where volumes of sets come from: `lvm`, a volume group; `loop`, image files with loop devices in the data directory;
   * `none`, and sets that want one are refused.
   */
  BERTH_VOLUME_BACKEND: z.enum(["lvm", "loop", "none"]).default("loop"),
  /** Of `lvm`: the group, which the operator has made. */
  BERTH_VOLUME_GROUP: z
    .string()
    .regex(/^[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}$/, "expected the name of a volume group")
    .default("berth"),
  /** Of `loop`: the share of the disk that volumes may take together. */
  BERTH_VOLUME_LOOP_PERCENT: wholeNumber(1, 90).default(20),
  BERTH_VOLUME_FILE_SYSTEM: z.enum(["ext4", "xfs"]).default("ext4"),
  /** How long the volume of a deleted set is kept. */
  BERTH_VOLUME_RETENTION_HOURS: wholeNumber(0, 24 * 365).default(168),
  /** Whether the trash is purged before that, oldest first, when a set needs the room. */
  BERTH_VOLUME_PURGE_EARLY: z.stringbool().default(false),
  /** Images that this agent pulled and no set needs are removed from so full a disk on, until it is that full. 100: never. */
  BERTH_IMAGE_COLLECT_HIGH_PERCENT: wholeNumber(1, 100).default(80),
  BERTH_IMAGE_COLLECT_LOW_PERCENT: wholeNumber(1, 100).default(70),
  /** What happens to a set that writes more to its root file systems than its template gives it. */
  BERTH_ROOTFS_EXCEEDED: z.enum(["warn", "stop"]).default("warn"),
  BERTH_DOCKER_SOCKET: path.default("/var/run/docker.sock"),
  /** Without it, an image is made of the BusyBox of this machine. */
  BERTH_INFRA_IMAGE: z.string().min(1).max(255).optional(),
  /** A statically linked one. */
  BERTH_BUSYBOX_PATH: path.default("/bin/busybox"),
  BERTH_CGROUP_ROOT: path.default("/sys/fs/cgroup"),
};

const schema = z.object({
  ...processSettings,
  ...agentSettings,
  BERTH_API_URL: z.url({ protocol: /^https?$/, error: "expected an http:// or https:// URL" }),
  /** PEM of the authority that the API's certificate is from, when it is none that everybody knows. */
  BERTH_API_CA: z.string().max(100_000).includes("BEGIN CERTIFICATE").optional(),
  /** Used once, when the host is enrolled; it may stay set. */
  BERTH_ENROLL_TOKEN: secretText.optional(),
});

const agentSchema = z.object(agentSettings);

export type HostAgentConfig = Readonly<z.output<typeof schema>>;
export type AgentSettings = Readonly<z.output<typeof agentSchema>>;

/** For processes that run an agent among other things, to let these variables be. */
export const agentSettingNames: readonly string[] = Object.keys(agentSettings);

/** Reads nothing but `env` and the files that `*_FILE` name. Throws ConfigError with all problems at once. */
export function loadHostAgentConfig(env: Env): HostAgentConfig {
  return Object.freeze(parseEnv(schema, env));
}

/** The agent's own settings out of those of a process that runs one among other things. */
export function loadAgentSettings(env: Env): AgentSettings {
  const own = Object.entries(env).filter(([name]) =>
    agentSettingNames.includes(name.replace(/_FILE$/, "")),
  );
  return Object.freeze(parseEnv(agentSchema, Object.fromEntries(own)));
}
