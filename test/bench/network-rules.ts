import type { HostRule } from "../../src/contracts/network-driver/host-rule.ts";
import { newId } from "../../src/lib/ids.ts";
import { sampleRule } from "../support/network/rule-samples.ts";
import { startSwitchDriver, stateOf } from "../support/network/switch-driver.ts";
import { median } from "./percentile.ts";
import { readOptions } from "./read-options.ts";

/**
 * Firewall rules on a host with 100 sets of 10 services, with the real driver and a real Open
 * vSwitch. Each rule has one of these services as target, so the host has flows of all rules.
 *
 * `rules10kMs` is the time from the request with 10,000 rules until their flows are in force and
 * the state is stored. `ruleChangeMs` is the time in which the driver compiles and applies the
 * change of one of them. `ruleChangeRequestMs` is the time of its whole request, which repeats all
 * rules. `plainChangeMs` is that of a state with one rule: of the programs and of the disk.
 */

const RULES = 10_000;
const SERVICES = 10;
const defaultSizes = { sets: 100, rounds: 5, changes: 20 };

export async function run({ args = [] }: { args?: readonly string[] } = {}) {
  return measureRules(readOptions(args, defaultSizes));
}

export async function measureRules({ sets, rounds, changes } = defaultSizes) {
  const host = await startSwitchDriver();
  try {
    const members = Array.from({ length: sets }, (_, index) => `10.64.1.${index + 1}`);
    for (const address of members) {
      const { id, Err } = await host.createEndpoint(`${address}/16`);
      const joined = await host.join(id);
      if (Err !== undefined || joined.Err !== undefined) throw new Error(Err ?? joined.Err);
    }
    const serviceIds = Array.from({ length: SERVICES }, () => newId("svc"));
    const services = serviceIds.map((serviceId, service) => ({
      serviceId,
      name: `service-${service}`,
      addresses: [],
      members: members
        .filter((_, index) => index % SERVICES === service)
        .map((address) => ({ setId: newId("set"), addresses: [address], isEndpoint: true })),
      ports: [],
    }));
    const rules = Array.from({ length: RULES }, (_, number) => benchRule(number, serviceIds));
    // The driver begins with the ports, and ends with the flows.
    let beganAtMs = 0;
    let appliedMs = 0;
    const { switchPort } = host;
    const listPorts = switchPort.listPorts.bind(switchPort);
    const replaceFlows = switchPort.replaceFlows.bind(switchPort);
    switchPort.listPorts = async (signal) => {
      beganAtMs = performance.now();
      return listPorts(signal);
    };
    switchPort.replaceFlows = async (flows, signal) => {
      await replaceFlows(flows, signal);
      appliedMs = performance.now() - beganAtMs;
    };
    let version = 0;
    const put = async (changed: readonly HostRule[]): Promise<number> => {
      version += 1;
      const text = JSON.stringify(stateOf(host, version, { services, rules: changed }));
      const request = { method: "PUT", path: "/v1/network-state", body: text };
      const startedAtMs = performance.now();
      const { body } = await host.driver.answerControl(request);
      const tookMs = performance.now() - startedAtMs;
      if (!(body as { isApplied?: boolean }).isApplied) throw new Error(JSON.stringify(body));
      return tookMs;
    };
    const allMs: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      await put([]);
      allMs.push(await put(rules));
    }
    const { flows } = host.driver.status();
    const oneMs: number[] = [];
    const requestMs: number[] = [];
    for (let change = 0; change < changes; change += 1) {
      const changed = { ...benchRule(RULES + change, serviceIds), ruleId: newId("rule") };
      requestMs.push(await put(rules.with(change, changed)));
      oneMs.push(appliedMs);
    }
    await put([]);
    const plainMs: number[] = [];
    for (let change = 0; change < changes; change += 1)
      plainMs.push(await put(change % 2 === 0 ? rules.slice(0, 1) : []));
    return {
      rules10kMs: Math.round(median(allMs)),
      ruleChangeMs: Math.round(median(oneMs)),
      rules: {
        sets,
        flows,
        rules10kMaxMs: Math.round(Math.max(...allMs)),
        ruleChangeMaxMs: Math.round(Math.max(...oneMs)),
        ruleChangeRequestMs: Math.round(median(requestMs)),
        plainChangeMs: Math.round(median(plainMs)),
      },
    };
  } finally {
    await host.close();
  }
}

/** Rules with single ports, ranges and subnets, of all priorities. */
function benchRule(number: number, serviceIds: readonly string[]): HostRule {
  const serviceOf = (index: number) => serviceIds[index % serviceIds.length] ?? "";
  const first = 1 + ((number * 7) % 60_000);
  const peer =
    number % 3 === 0
      ? ({ kind: "cidr", cidr: `172.16.${number % 256}.0/24` } as const)
      : ({ kind: "service", serviceId: serviceOf(number + 1) } as const);
  return sampleRule(number, {
    priority: number % 10_000,
    direction: number % 2 === 0 ? "ingress" : "egress",
    action: number % 4 === 0 ? "deny" : "allow",
    protocol: number % 5 === 0 ? "udp" : "tcp",
    ports: [{ first, last: number % 10 === 0 ? first + 7 : first }],
    serviceId: serviceOf(number),
    peer,
  });
}
