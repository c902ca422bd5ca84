import type { Log } from "../../lib/log.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import type { Clock } from "../base/clock.ts";
import type { HousekeepingOptions } from "../housekeeping/housekeeping.ts";
import type { RegistryCredentials } from "../model/registry-credentials.ts";
import type { ControlPlane } from "../ports/control-plane.ts";
import type { MachinePort } from "../ports/machine-port.ts";
import type { HostNetworksPort } from "../ports/host-networks-port.ts";
import type { NetworkDriverPort } from "../ports/network-driver-port.ts";
import type { PreviousHostsPort } from "../ports/previous-hosts-port.ts";
import type { DialSession, SessionPort } from "../ports/session-port.ts";
import type { SetPort } from "../ports/set-port.ts";
import type { StateStore } from "../ports/state-store.ts";
import type { VolumePort } from "../ports/volume-port.ts";

export interface AgentOptions {
  hostId: string;
  agentVersion: string;
  port: SetPort;
  api: ControlPlane;
  state: StateStore;
  machine: MachinePort;
  /** Without it, the host has no volumes. */
  volumes?: VolumePort | undefined;
  /** Without it, the agent deletes no images. */
  disk?: HousekeepingOptions["disk"];
  /** Without it, the agent does not test whether this machine can run a set. */
  selfTest?: HousekeepingOptions["selfTest"];
  /** Without it, the sets of deleted hosts stay on this machine. */
  previousHosts?: PreviousHostsPort | undefined;
  /** Without it, the host serves no sessions. */
  sessions?: { port: SessionPort; dial: DialSession } | undefined;
  /** Without it, the host connects no sets to networks. */
  networks?: AgentNetworks | undefined;
  /**
   * The address at which clients reach the published ports of the host. Null if it is unknown.
   * Without it, the host publishes no ports.
   */
  hostAddress?: (() => string | null) | undefined;
  /** The credentials that the port pulls with, which each answer may replace. */
  registryCredentials?: RegistryCredentials | undefined;
  /** True if the agent stops sets that exceed their `rootfs`; otherwise it only reports them. */
  stopsAtRootfs?: boolean;
  log: Log;
  clock: Clock;
  /** In [0, 1). */
  random: () => number;
  limits?: Partial<AgentLimits>;
}

/** The parts that connect sets to networks. */
export interface AgentNetworks {
  driver: NetworkDriverPort;
  hostNetworks: HostNetworksPort;
  /**
   * Finds the address to which other hosts send VXLAN packets. Null without one, undefined if that
   * is unknown now.
   */
  findTunnelAddress: () => Promise<string | null | undefined>;
}
