import { expect } from "vitest";
import type { HostRule } from "../../../src/contracts/network-driver/host-rule.ts";
import { newId } from "../../../src/lib/ids.ts";
import type { FakeSet } from "../ovs/fake-set.ts";
import { sampleRule } from "./rule-samples.ts";
import { startSwitchDriver, stateOf } from "./switch-driver.ts";
import { startSwitchSets } from "./switch-sets.ts";

const numbers = [1, 2, 3];
/** Long for a packet on this machine, because these answers must not arrive. */
export const silenceMs = 1_000;

/**
 * A driver with three containers, each the only set of its service. The test puts network states,
 * as the agent does. The first set is the client.
 */
export async function startRuledSets(options: { hasUplink?: boolean } = {}) {
  const host = await startSwitchDriver(options);
  const sets = await startSwitchSets(host, numbers);
  const client = sets[0] as FakeSet;
  const setIds = numbers.map(() => newId("set"));
  const [own, database, admin] = numbers.map(() => newId("svc")) as [string, string, string];
  const serviceIds = [own, database, admin];
  let version = 0;
  let endConnectionsCount = 0;
  /** The next network state, with these rules. */
  const stateWith = (...changes: Partial<HostRule>[]) => {
    version += 1;
    const services = numbers.map((number, index) => ({
      serviceId: serviceIds[index],
      name: `service-${number}`,
      addresses: [],
      members: [{ setId: setIds[index], addresses: [`10.64.0.${number}`], isEndpoint: true }],
      ports: [],
    }));
    const rules = changes.map((change, index) => sampleRule(index, change));
    return stateOf(host, version, { services, rules, endConnectionsCount });
  };
  return {
    host,
    sets,
    client,
    database,
    admin,
    /** Denies connections to the second set. */
    denyDatabase: { direction: "ingress", action: "deny", serviceId: database } as const,
    stateWith,
    /** The next states request the end of forbidden connections once more. */
    requestEnd: () => {
      endConnectionsCount += 1;
    },
    putRules: async (...changes: Partial<HostRule>[]): Promise<void> => {
      const answer = await host.put(stateWith(...changes));
      expect(answer).toMatchObject({ body: { isApplied: true, isStored: true } });
    },
    /**
     * Sends a datagram from this port of the client. Those of one port are one connection. Without
     * the purge, a busy switch may forward the datagram by flows that have just been replaced.
     */
    ask: async (number: number, sourcePort: number): Promise<string> => {
      await host.ovs.ovs("ovs-appctl", "--target=ovs-vswitchd", "revalidator/purge");
      const options = { sourcePort, timeoutMs: silenceMs };
      const answer = await client.probe("udp", `10.64.0.${number}`, options);
      return answer.startsWith("error: ") ? "silence" : answer.replace(":hello", "");
    },
    close: async () => {
      for (const set of sets) await set.close();
      await host.close();
    },
  };
}

export type RuledSets = Awaited<ReturnType<typeof startRuledSets>>;
