import { z } from "zod";
import { labelsSchema, nameSchema } from "../contracts/common/primitives.ts";
import { addressSchema } from "../contracts/network-driver/network-state.ts";
import { processSettings, secretText, wholeNumber } from "./common-settings.ts";
import { networkDriverSettings } from "./network-driver.ts";
import { type Env, parseEnv } from "./parse-env.ts";

/** Parses "disk=ssd,row=7" into labels. */
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

/** A setting of the agent that the ordered stop of all sets needs too. */
export const dockerSocketSettings = {
  BERTH_DOCKER_SOCKET: path.default("/var/run/docker.sock"),
};

/** Settings of the agent. An all-in-one process accepts them, too. */
const agentSettings = {
  /** The folder of the host's identity and desired state. Hosts must not share it. */
  BERTH_AGENT_DATA_DIR: path.default("/var/lib/berth-agent"),
  /**
   * A file with the lasting id of the machine, for an agent in a container. Default:
   * `/etc/machine-id`, unless the agent runs in a container or the id is that of one boot.
   */
  BERTH_AGENT_MACHINE_ID_FILE: path.optional(),
  /** Name of the host; default: the machine's host name. */
  BERTH_AGENT_NAME: nameSchema.optional(),
  /** Failure domains, across which sets are spread. */
  BERTH_AGENT_ZONE: nameSchema.default("default"),
  BERTH_AGENT_RACK: nameSchema.default("default"),
  BERTH_AGENT_LABELS: labelList.prefault(""),
  /** Percentages of the machine that are reserved for the system, Docker and the agent. */
  BERTH_AGENT_RESERVE_CPU_PERCENT: reservePercent,
  BERTH_AGENT_RESERVE_MEMORY_PERCENT: reservePercent,
  BERTH_AGENT_RESERVE_ROOTFS_PERCENT: reservePercent,
  /** Must be well below two minutes: Berth places no sets on a host whose last report is older. */
  BERTH_AGENT_USAGE_INTERVAL_MS: wholeNumber(1_000, 60_000).default(15_000),
  /**
   * Concurrent steps of different sets, and concurrent container starts among them. Docker does not
   * handle more concurrent starts.
   */
  BERTH_AGENT_STEPS_MAX: wholeNumber(1, 1_000).default(64),
  BERTH_AGENT_STARTS_MAX: wholeNumber(1, 100).default(8),
  /**
   * The reaction to a failed self test. `enforce`: the host gets no new sets. `report`: the host
   * shows the reason only. `off`: the agent runs no self test.
   */
  BERTH_AGENT_SELF_TEST: z.enum(["enforce", "report", "off"]).default("enforce"),
  /**
   * Backend of the volumes: `lvm` (a volume group), `loop` (image files with loop devices in the
   * data directory), or `none`. With `none` the host runs no sets with a volume.
   */
  BERTH_VOLUME_BACKEND: z.enum(["lvm", "loop", "none"]).default("loop"),
  /** The volume group of `lvm`, which the operator creates. */
  BERTH_VOLUME_GROUP: z
    .string()
    .regex(/^[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}$/, "expected the name of a volume group")
    .default("berth"),
  /** The percentage of the disk that `loop` volumes may use together. */
  BERTH_VOLUME_LOOP_PERCENT: wholeNumber(1, 90).default(20),
  BERTH_VOLUME_FILE_SYSTEM: z.enum(["ext4", "xfs"]).default("ext4"),
  /** Retention of a deleted set's volume. */
  BERTH_VOLUME_RETENTION_HOURS: wholeNumber(0, 24 * 365).default(168),
  /** Purge the oldest trash before its expiry when a set needs the space. */
  BERTH_VOLUME_PURGE_EARLY: z.stringbool().default(false),
  /**
   * Above the high percentage of disk usage, the agent deletes images that it pulled and no set
   * needs, down to the low percentage. 100 disables it.
   */
  BERTH_IMAGE_COLLECT_HIGH_PERCENT: wholeNumber(1, 100).default(80),
  BERTH_IMAGE_COLLECT_LOW_PERCENT: wholeNumber(1, 100).default(70),
  /** The reaction to a set that exceeds its `rootfs`. */
  BERTH_ROOTFS_EXCEEDED: z.enum(["warn", "stop"]).default("warn"),
  ...dockerSocketSettings,
  /** Default: an image with the BusyBox of this machine. */
  BERTH_INFRA_IMAGE: z.string().min(1).max(255).optional(),
  /** A statically linked BusyBox. */
  BERTH_BUSYBOX_PATH: path.default("/bin/busybox"),
  BERTH_CGROUP_ROOT: path.default("/sys/fs/cgroup"),
  ...networkDriverSettings,
  /**
   * The address of this host in the network of the tunnels. Default: that of the interface which
   * reaches the API.
   */
  BERTH_TUNNEL_ADDRESS: addressSchema.optional(),
  /**
   * The address at which clients reach the published ports of sets. Default: the source address of
   * the default route.
   */
  BERTH_HOST_ADDRESS: addressSchema.optional(),
};

const schema = z.object({
  ...processSettings,
  ...agentSettings,
  BERTH_API_URL: z.url({ protocol: /^https?$/, error: "expected an http:// or https:// URL" }),
  /** PEM of the certificate authority of the API, if it is not a public one. */
  BERTH_API_CA: z.string().max(100_000).includes("BEGIN CERTIFICATE").optional(),
  /** Used once, for the enrollment; it may stay set. */
  BERTH_ENROLL_TOKEN: secretText.optional(),
  /** systemd sets both: its socket, and the timeout of its watchdog. */
  NOTIFY_SOCKET: path.optional(),
  WATCHDOG_USEC: wholeNumber(1, Number.MAX_SAFE_INTEGER).optional(),
});

const agentSchema = z.object(agentSettings);

export type HostAgentConfig = Readonly<z.output<typeof schema>>;
export type AgentSettings = Readonly<z.output<typeof agentSchema>>;

/** Names of these settings, for processes that run an agent among other things. */
export const agentSettingNames: readonly string[] = Object.keys(agentSettings);

/**
 * Reads only `env` and the files that `*_FILE` name. Throws ConfigError that lists all problems.
 */
export function loadHostAgentConfig(env: Env): HostAgentConfig {
  return Object.freeze(parseEnv(schema, env));
}

/** Selects the agent's settings from those of a process that runs an agent among other things. */
export function loadAgentSettings(env: Env): AgentSettings {
  const own = Object.entries(env).filter(([name]) =>
    agentSettingNames.includes(name.replace(/_FILE$/, "")),
  );
  return Object.freeze(parseEnv(agentSchema, Object.fromEntries(own)));
}
