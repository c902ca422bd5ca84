import { median, percentile } from "./percentile.ts";
import { type NetworkHost, nextSet, removeSet, runSet, startSet } from "./network-hosts.ts";

/**
 * The time that a Berth network adds to the start of a set, from the order to the agent's set
 * engine until the containers run. Sets in a network and sets on Docker's bridge take turns on one
 * daemon. Another set stays in the network, because only the first one creates Docker's network.
 *
 * So do sets on a bridge that a user has created in Docker. In each network except its own bridge,
 * Docker starts 12 programs for the name server of a container.
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
    userBridgeP50Ms: round(one.userBridge.p50Ms),
    tenOnUserBridgeMs: round(ten.userBridge.p50Ms),
  };
  process.stdout.write(
    `one set: ${figures.bridgeP50Ms} ms on Docker's bridge, ${figures.networkP50Ms} ms in a network, which adds ${figures.attachAddedP50Ms} ms\n` +
      `ten at once: ${figures.tenOnBridgeMs} ms on Docker's bridge, ${figures.tenInNetworkMs} ms in a network\n` +
      `on a bridge of a user: ${figures.userBridgeP50Ms} ms, and ${figures.tenOnUserBridgeMs} ms for ten\n`,
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
): Promise<{ network: Times; bridge: Times; userBridge: Times }> {
  const networkMs: number[] = [];
  const bridgeMs: number[] = [];
  const userBridgeMs: number[] = [];
  const { engine, userBridgeEngine } = host;
  const kinds = [
    { isInNetwork: true, engine, allMs: networkMs },
    { isInNetwork: false, engine, allMs: bridgeMs },
    { isInNetwork: false, engine: userBridgeEngine, allMs: userBridgeMs },
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
    userBridge: toTimes(userBridgeMs),
  };
}

function toTimes(allMs: readonly number[]): Times {
  return { p50Ms: median(allMs), p90Ms: percentile(allMs, 90) };
}

function round(value: number, factor = 10): number {
  return Math.round(value * factor) / factor;
}
