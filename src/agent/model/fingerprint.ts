import type { Limits, ObservedLocalSet } from "./local-set.ts";

/** Two observations have equal fingerprints if nothing changed between them. */
export function fingerprint(observed: ObservedLocalSet | undefined): string {
  if (!observed) return "absent";
  const containers = [observed.infra, ...observed.containers].map((seen) =>
    [
      seen?.name,
      seen?.dockerId,
      seen?.state,
      seen?.startedAt,
      seen?.oomKills,
      ...limitsIn(seen),
      JSON.stringify(seen?.io),
    ].join(" "),
  );
  return [...containers, ...limitsIn(observed), observed.volumeBytes].join(",");
}

function limitsIn(seen: { limits?: Limits | undefined } | undefined): (number | undefined)[] {
  const { cpuQuotaUs, cpuShares, memoryBytes, reservationBytes, pidsMax } = seen?.limits ?? {};
  return [cpuQuotaUs, cpuShares, memoryBytes, reservationBytes, pidsMax];
}
