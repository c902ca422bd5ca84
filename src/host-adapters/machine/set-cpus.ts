import { readFileSync } from "node:fs";
import { parseCpuList } from "../../lib/linux/cpu-list.ts";

const onlineFile = "/sys/devices/system/cpu/online";

/**
 * The processors on which sets run: those of the machine without the ones of the switch. Undefined
 * for all. Throws if the switch has a processor that the machine lacks, or leaves none to sets.
 */
export function readSetCpus(
  switchCpus: readonly number[] = [],
  file = onlineFile,
): readonly number[] | undefined {
  if (switchCpus.length === 0) return undefined;
  const online = parseCpuList(readFileSync(file, "utf8")) ?? [];
  const missing = switchCpus.filter((cpu) => !online.includes(cpu));
  if (missing.length > 0)
    throw new Error(
      `BERTH_NETWORK_PMD_CPUS names the processors ${missing.join(", ")}, which this machine does not have.`,
    );
  const left = online.filter((cpu) => !switchCpus.includes(cpu));
  if (left.length === 0) throw new Error("BERTH_NETWORK_PMD_CPUS leaves no processor to sets.");
  return left;
}
