import type { FilterWatch } from "../../network-driver/ports/filter-watch.ts";
import { ip6tables, iptables, runOnHost } from "./packet-filter.ts";
import { publishingChainName } from "./uplink-chains.ts";

/** @param bridge the name that the chains of this driver have */
export function createFilterWatch({ bridge }: { bridge: string }): FilterWatch {
  let remembered: string | undefined;
  const own = new RegExp(`BERTH-(?:[A-Z]+-)?${bridge}(?![\\w-])`);
  const ofPorts = `-A ${publishingChainName(bridge)} `;
  const read = async (signal: AbortSignal): Promise<string> => {
    const texts = await Promise.all(
      [iptables, ip6tables].map((program) => runOnHost(`${program}-save`, [], signal)),
    );
    return texts
      .flatMap((text) => text.split("\n"))
      .filter((line) => own.test(line) && !line.startsWith(ofPorts))
      .map((line) => line.replace(/ \[\d+:\d+\]$/, ""))
      .join("\n");
  };
  return {
    async remember(signal) {
      remembered = await read(signal);
    },
    isUnchanged: async (signal) => remembered === undefined || (await read(signal)) === remembered,
  };
}
