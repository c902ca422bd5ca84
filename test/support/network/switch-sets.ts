import { type FakeSet, startFakeSet } from "../ovs/fake-set.ts";
import type { SwitchDriver } from "./switch-driver.ts";

/** Joins one container for each number N: the set `set-N` with the address 10.64.0.N. */
export async function startSwitchSets(
  host: SwitchDriver,
  numbers: readonly number[],
): Promise<FakeSet[]> {
  const sets: FakeSet[] = [];
  for (const number of numbers) {
    const { id } = await host.createEndpoint(`10.64.0.${number}/16`);
    const { Err } = await host.join(id);
    if (Err !== undefined) throw new Error(Err);
    sets.push(
      await startFakeSet({
        name: `set-${number}`,
        namespace: `berth-${host.bridge}-${number}`,
        hostEnd: host.names.nameEnds(id).hostEnd,
        containerEnd: host.names.nameEnds(id).containerEnd,
        mac: `0a:00:0a:40:00:0${number}`,
        addresses: [`10.64.0.${number}/16`],
        mtu: 1_450,
        disablesChecksumOffload: true,
      }),
    );
  }
  return sets;
}
