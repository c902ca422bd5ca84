import type { CheckedSubnet } from "../../contracts/api/check-subnets.ts";
import type { Capability } from "../../contracts/api/container-options.ts";
import type { PortRange } from "../../contracts/common/port-ranges.ts";
import type { ControlSettings } from "../../control/runtime/context.ts";

/** Converts a process's configuration to the settings of the control plane. */
export function toControlSettings(config: {
  BERTH_HOST_LOST_GRACE_MS: number;
  BERTH_LOST_HOSTS_PERCENT_MAX: number;
  BERTH_REPORT_AGE_MAX_MS: number;
  BERTH_DELETED_RETENTION_DAYS: number;
  BERTH_CAPABILITIES_ALLOWED: readonly Capability[];
  BERTH_DEFAULT_NETWORK_CIDR: readonly CheckedSubnet[];
  BERTH_HOST_PORTS: PortRange;
  BERTH_FIXED_HOST_PORTS: readonly PortRange[];
  BERTH_SESSION_IDLE_SECONDS: number;
}): ControlSettings {
  return {
    hostLostGraceMs: config.BERTH_HOST_LOST_GRACE_MS,
    lostHostsPercentMax: config.BERTH_LOST_HOSTS_PERCENT_MAX,
    reportAgeMaxMs: config.BERTH_REPORT_AGE_MAX_MS,
    capabilitiesAllowed: config.BERTH_CAPABILITIES_ALLOWED,
    defaultNetworkSubnets: config.BERTH_DEFAULT_NETWORK_CIDR,
    hostPortRange: config.BERTH_HOST_PORTS,
    fixedHostPorts: config.BERTH_FIXED_HOST_PORTS,
    sessionIdleSeconds: config.BERTH_SESSION_IDLE_SECONDS,
    deletedRetentionMs: config.BERTH_DELETED_RETENTION_DAYS * 86_400_000,
  };
}
