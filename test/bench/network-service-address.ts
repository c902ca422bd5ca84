import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { applyNetwork, type BenchService, type NetworkHosts, runSet } from "./network-hosts.ts";
import { openConnections, serveLoad } from "./network-load.ts";
import { median } from "./percentile.ts";

/**
 * New connections per second through a service address, and directly to the same sets in turns. Of
 * three sets, one is not on the host of the client.
 *
 * Swarm's VIP needs the kernel's IPVS, which `hasIpvs` reports. Without it, only direct connections
 * are the peer. In a last run, one set after another leaves the endpoints and returns, and no
 * connection may fail.
 *
 * All runs together open fewer connections than a network may have tracked at a time.
 */

const ADDRESS = "10.64.250.1";
const CHANGE_MS = 300;

export async function measureServiceAddress(
  hosts: NetworkHosts,
  { rounds, connections }: { rounds: number; connections: number },
) {
  const client = await runSet(hosts.first, { isInNetwork: true });
  const members = [
    await runSet(hosts.first, { isInNetwork: true }),
    await runSet(hosts.first, { isInNetwork: true }),
    await runSet(hosts.second, { isInNetwork: true }),
  ];
  const sets = [client, ...members];
  const service: BenchService = { address: ADDRESS, members };
  await applyNetwork(hosts, sets, service);
  const ends = await Promise.all(members.map((member) => serveLoad(member)));
  try {
    const kinds = [
      { addresses: [ADDRESS], perSecond: [] as number[] },
      { addresses: members.map(({ address }) => address), perSecond: [] as number[] },
    ] as const;
    let failed = 0;
    let failedDirectly = 0;
    for (const { addresses } of kinds) await openConnections(client, addresses, 100);
    for (let round = 0; round < rounds; round++)
      for (const kind of round % 2 === 0 ? kinds : kinds.toReversed()) {
        const opened = await openConnections(client, kind.addresses, connections);
        kind.perSecond.push(opened.perSecond);
        if (kind === kinds[0]) failed += opened.failed;
        else failedDirectly += opened.failed;
      }
    const changing = await openWhileChanging(connections, {
      open: (count) => openConnections(client, [ADDRESS], count),
      change: (unready) => applyNetwork(hosts, sets, { ...service, unready }),
      setIds: members.map(({ setId }) => setId),
    });
    failed += changing.failed;
    const [through, directly] = kinds.map(({ perSecond }) => Math.round(median(perSecond)));
    const result = {
      connectionsPerSecondRatio: Math.round(((through ?? 0) / (directly ?? 1)) * 1_000) / 1_000,
      failed,
      failedDirectly,
      perSecond: through,
      directPerSecond: directly,
      changesMeanwhile: changing.changes,
      hasIpvs: existsSync("/proc/net/ip_vs"),
    };
    process.stdout.write(
      `service address: ${through} connections/s, ${directly} directly, ratio ${result.connectionsPerSecondRatio}; ${failed} failed, also while its endpoints changed ${changing.changes} times\n`,
    );
    return result;
  } finally {
    for (const end of ends) end();
  }
}

/** Opens connections while one set after another leaves the endpoints and returns. */
async function openWhileChanging(
  connections: number,
  {
    open,
    change,
    setIds,
  }: {
    open: (count: number) => Promise<{ failed: number; errors: string[] }>;
    change: (unready: ReadonlySet<string>) => Promise<void>;
    setIds: readonly string[];
  },
): Promise<{ failed: number; changes: number }> {
  const ended = new AbortController();
  const opening = open(connections).finally(() => ended.abort());
  let changes = 0;
  for (; !ended.signal.aborted; changes++) {
    await change(new Set(setIds.slice(changes % setIds.length, (changes % setIds.length) + 1)));
    await delay(CHANGE_MS);
  }
  const { failed, errors } = await opening;
  for (const error of errors) process.stdout.write(`  ${error}\n`);
  return { failed, changes };
}
