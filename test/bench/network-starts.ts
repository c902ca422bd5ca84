import { median, percentile } from "./percentile.ts";
import { type NetworkHost, nextSet, removeSet, runSet, startSet } from "./network-hosts.ts";

/**
 * The time that a Berth network adds to the start of a set, from the order to the agent's set
 * engine until the containers run. Sets in a network and sets on Docker's default bridge network
 * take turns on one daemon. Another set stays in the network, because only the first one creates
 * Docker's network.
 *
 * Sets on a user-defined bridge network take turns, too. In each network except the default bridge
 * network, Docker starts 12 programs for the name server of a container.
 */

export interface StartRounds {
  oneRounds: number;
  tenRounds: number;
}

export async function measureStarts(
  host: NetworkHost,
  { oneRounds, tenRounds }: StartRounds,
): Promise<Record<string, number>> {
  const resident = await runSet(host, { isInNetwork: true });
  await compare(host, 1, 2); // images and code are warm afterwards
  const one = await compare(host, 1, oneRounds);
  const ten = await compare(host, 10, tenRounds);
  await removeSet(host, resident.setId);
  const figures = {
    attachAddedP50Ms: round(one.network.p50Ms - one.bridge.p50Ms),
    bridgeP50Ms: round(one.bridge.p50Ms),
    networkP50Ms: round(one.network.p50Ms),
    networkP90Ms: round(one.network.p90Ms),
    tenAtOnceAddedRatio: round(ten.network.p50Ms / ten.bridge.p50Ms - 1, 1_000),
    tenOnBridgeMs: round(ten.bridge.p50Ms),
    tenInNetworkMs: round(ten.network.p50Ms),
    userDefinedBridgeP50Ms: round(one.userDefinedBridge.p50Ms),
    tenOnUserDefinedBridgeMs: round(ten.userDefinedBridge.p50Ms),
  };
  process.stdout.write(
    `one set: ${figures.bridgeP50Ms} ms on Docker's default bridge network, ${figures.networkP50Ms} ms in a network, which adds ${figures.attachAddedP50Ms} ms\n` +
      `ten at once: ${figures.tenOnBridgeMs} ms on Docker's default bridge network, ${figures.tenInNetworkMs} ms in a network\n` +
      `on a user-defined bridge network: ${figures.userDefinedBridgeP50Ms} ms, and ${figures.tenOnUserDefinedBridgeMs} ms for ten\n`,
  );
  return figures;
}

interface Times {
  p50Ms: number;
  p90Ms: number;
}

async function compare(
  host: NetworkHost,
  count: number,
  rounds: number,
): Promise<{ network: Times; bridge: Times; userDefinedBridge: Times }> {
  const networkMs: number[] = [];
  const bridgeMs: number[] = [];
  const userDefinedBridgeMs: number[] = [];
  const { engine, userDefinedBridgeEngine } = host;
  const kinds = [
    { isInNetwork: true, engine, allMs: networkMs },
    { isInNetwork: false, engine, allMs: bridgeMs },
    { isInNetwork: false, engine: userDefinedBridgeEngine, allMs: userDefinedBridgeMs },
  ];
  for (let turn = 0; turn < rounds; turn++)
    // Each meets a daemon that has just removed the containers of another one.
    for (const { isInNetwork, engine: by, allMs } of turn % 2 === 0 ? kinds : kinds.toReversed()) {
      const sets = Array.from({ length: count }, () => nextSet({ isInNetwork }));
      const startedAtMs = performance.now();
      await Promise.all(sets.map((set) => startSet({ engine: by }, set)));
      allMs.push(performance.now() - startedAtMs);
      await Promise.all(sets.map(({ setId }) => removeSet(host, setId)));
    }
  return {
    network: toTimes(networkMs),
    bridge: toTimes(bridgeMs),
    userDefinedBridge: toTimes(userDefinedBridgeMs),
  };
}

function toTimes(allMs: readonly number[]): Times {
  return { p50Ms: median(allMs), p90Ms: percentile(allMs, 90) };
}

function round(value: number, factor = 10): number {
  return Math.round(value * factor) / factor;
}
