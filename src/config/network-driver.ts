import { z } from "zod";
import { parseCpuList } from "../lib/linux/cpu-list.ts";
import { parseAddress, parseSubnet } from "../lib/ip/ip-address.ts";
import { processSettings, wholeNumber } from "./common-settings.ts";
import { type Env, parseEnv } from "./parse-env.ts";

const path = z.string().min(1).max(1_000);
/** The kernel accepts 107 bytes for the path of a socket. */
const socketPath = z.string().min(1).max(100).startsWith("/", "expected an absolute path");

/** The settings of the driver that the agent of its host needs too. */
export const networkDriverSettings = {
  /** The name of the Docker plugin. Hosts need no other than the default. */
  BERTH_NETWORK_PLUGIN: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,31}$/, "expected lower-case letters, digits and hyphens")
    .default("berth"),
  /** The socket for the host's agent. Only root may connect. */
  BERTH_NETWORK_CONTROL_SOCKET: socketPath.default("/run/berth/network-driver.sock"),
  /**
   * The processors of the threads that poll network cards, such as `2-3`: for Open vSwitch with
   * DPDK. Sets do not run there, and the host does not offer their capacity.
   */
  BERTH_NETWORK_PMD_CPUS: z
    .string()
    .refine((text) => parseCpuList(text) !== undefined, "expected processors such as 2-3 or 2,5")
    .transform((text) => parseCpuList(text) ?? [])
    .optional(),
};

const schema = z.object({
  ...processSettings,
  ...networkDriverSettings,
  /** The folder in which Docker looks for plugins. */
  BERTH_NETWORK_PLUGIN_DIR: socketPath.default("/run/docker/plugins"),
  /** The folder of the records of networks and endpoints. */
  BERTH_NETWORK_DATA_DIR: path.default("/var/lib/berth/network"),
  BERTH_NETWORK_BRIDGE: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,14}$/, "expected at most 15 lower-case letters, digits and hyphens")
    .default("berth0"),
  /** `system`: the kernel module of Open vSwitch. `netdev`: its userspace datapath. */
  BERTH_NETWORK_DATAPATH: z.enum(["system", "netdev"]).default("system"),
  /**
   * First characters of the names of interfaces. No other program may use it, nor another driver on
   * the same machine.
   */
  BERTH_NETWORK_LINK_PREFIX: z
    .string()
    .regex(/^[a-z][a-z0-9]{0,2}$/, "expected one to three lower-case letters and digits")
    .default("b"),
  /** The folder with the sockets of Open vSwitch. */
  BERTH_NETWORK_OVS_RUNDIR: path.default("/run/openvswitch"),
  /** The UDP port of the VXLAN tunnels between hosts. All hosts have the same one. */
  BERTH_NETWORK_TUNNEL_PORT: wholeNumber(1, 65_535).default(4_789),
  /**
   * MTU of the uplink, and of networks whose creator names none. Berth's agent names none. VXLAN
   * adds 50 bytes over IPv4, which gives 1,500 with the default, and 70 bytes over IPv6.
   */
  BERTH_NETWORK_MTU: wholeNumber(1_280, 65_535).default(1_450),
  /**
   * 65,536 IPv4 addresses that no route of the host covers. Packets of sets to external addresses
   * have them as source on their way through the host. With `none`, sets reach no external address.
   */
  BERTH_NETWORK_OUTBOUND_SUBNET: z
    .string()
    .regex(
      /^none$|^(?:\d{1,3}\.){2}0\.0\/16$/,
      "expected an IPv4 subnet such as 198.19.0.0/16, or none",
    )
    .refine((text) => text === "none" || parseSubnet(text) !== undefined, "expected an IPv4 subnet")
    .default("198.19.0.0/16"),
  /**
   * The interfaces on which packets to external addresses may leave, such as `eth0,eth1`. The
   * default is the interface of the default route.
   */
  BERTH_NETWORK_OUTBOUND_INTERFACES: z
    .string()
    .transform((text) => text.split(",").map((name) => name.trim()))
    .refine(
      (names) => names.length <= 16 && names.every((name) => /^[\w.@:-]{1,15}$/.test(name)),
      "expected one to 16 names of interfaces, separated by commas",
    )
    .optional(),
  /** Sets resolve names of services if this host also has unbound and the outbound subnet. */
  BERTH_NETWORK_DNS: z.stringbool().default(true),
  /** The folder of the files of unbound. Its parent has the group of unbound. */
  BERTH_NETWORK_DNS_DIR: z
    .string()
    .regex(/^\/[\w./-]{1,60}$/, "expected an absolute path without special characters")
    .default("/var/lib/unbound/berth"),
  /** Resolvers for all other names. The default is those of the host. */
  BERTH_NETWORK_DNS_RESOLVERS: z
    .string()
    .transform((text) => text.split(",").map((address) => address.trim()))
    .refine(
      (addresses) =>
        addresses.length <= 3 && addresses.every((address) => parseAddress(address) !== undefined),
      "expected one to three addresses, separated by commas",
    )
    .optional(),
  /** systemd sets it: the socket for the message that the process serves. */
  NOTIFY_SOCKET: path.optional(),
});

export type NetworkDriverConfig = Readonly<z.output<typeof schema>>;

/**
 * Reads only `env` and the files that `*_FILE` name. Throws ConfigError that lists all problems.
 */
export function loadNetworkDriverConfig(env: Env): NetworkDriverConfig {
  return Object.freeze(parseEnv(schema, env));
}
