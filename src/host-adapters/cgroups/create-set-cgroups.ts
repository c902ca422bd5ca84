import { createFsCgroups } from "./fs-cgroups.ts";
import type { SetCgroups, SetCgroupsOptions } from "./set-cgroups.ts";
import { createSystemdCgroups } from "./systemd-cgroups.ts";

/** Cgroups of sets, through the manager that Docker uses on this machine. */
export function createSetCgroups(options: SetCgroupsOptions): SetCgroups {
  return options.driver === "systemd" ? createSystemdCgroups(options) : createFsCgroups(options);
}
