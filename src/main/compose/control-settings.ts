import type { ControlSettings } from "../../control/runtime/context.ts";

/** The settings of services out of a process's configuration. */
export function serviceSettingsOf(config: {
  BERTH_HOST_LOST_GRACE_MS: number;
  BERTH_LOST_HOSTS_PERCENT_MAX: number;
  BERTH_REPORT_AGE_MAX_MS: number;
  BERTH_DELETED_RETENTION_DAYS: number;
}): ControlSettings {
  return {
    hostLostGraceMs: config.BERTH_HOST_LOST_GRACE_MS,
    lostHostsPercentMax: config.BERTH_LOST_HOSTS_PERCENT_MAX,
    reportAgeMaxMs: config.BERTH_REPORT_AGE_MAX_MS,
    deletedKeptMs: config.BERTH_DELETED_RETENTION_DAYS * 86_400_000,
  };
}
