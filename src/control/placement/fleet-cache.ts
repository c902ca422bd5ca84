import type { Db, Queryable } from "../../db/postgres/open-postgres.ts";
import {
  type RefreshPosition,
  type FleetHostRow,
  type FleetSetRow,
  listChangedHosts,
  listChangedSets,
  listHostsAfter,
  listHostIds,
  listSetsOnHosts,
  readRefreshPosition,
} from "../../db/queries/placement/fleet.ts";
import { withTx } from "../../db/transaction.ts";
import { assert } from "../../lib/assert.ts";
import { createFleet, type Fleet } from "../../scheduler/placement/fleet.ts";
import { NETWORKS_FEATURE, type PlanPolicy } from "../../scheduler/placement/model.ts";
import { findPoolsWithIgnoredSelfTest } from "./ignore-self-tests.ts";
import { toHostSnapshot, toPlanPolicy } from "./host-snapshot.ts";

const HOST_CENSUS_INTERVAL_MS = 60_000;
/**
 * A fleet that was not refreshed for longer is loaded again. Retention purges the rows of deleted
 * sets after a day at the earliest, and a refresh must see them before.
 */
const UNREFRESHED_MS_MAX = 12 * 3_600_000;
/** Hosts per statement of the load, with their sets in a second one. */
const HOSTS_PER_CHUNK = 100;

export interface RefreshedFleet {
  fleet: Fleet;
  policy: PlanPolicy;
  /** The clock of the database, by which reports have an age. */
  nowMs: number;
}

/** The part of the cache that one load creates. */
interface LoadedFleet {
  fleet: Fleet;
  policy: PlanPolicy;
  /** Refreshes read the changes of all transactions that were still running at this position. */
  position: RefreshPosition;
  hosts: Map<string, { name: string; version: string }>;
  /** The rows of the hosts whose self test failed. */
  failed: Map<string, FleetHostRow>;
  ignoredSelfTests: ReadonlySet<string>;
  censusAtMs: number;
  refreshedAtMs: number;
}

/**
 * The fleet in memory. `load` reads it once, in bounded chunks. `refresh` then reads only the rows
 * of transactions that had not ended at the refresh before: it may read a row twice, and misses
 * none. A census of host ids, once a minute, finds deleted hosts.
 *
 * A planner calls `refresh`, one call at a time, and plans on the result. Between plans
 * `refreshInBackground` keeps the next refresh small. Its result is dropped if a planner has called
 * `refresh` meanwhile, because it may be older.
 *
 * Pass a transaction to `refresh` only before its first write. Otherwise the cache may show rows
 * that a rollback takes back; call `reset` after an error then.
 */
export class FleetCache {
  readonly #reportAgeMaxMs: number;
  readonly #failedPercentMax: number;
  readonly #hostsPerChunk: number;
  #loaded: LoadedFleet | undefined;
  #loading: Promise<void> | undefined;
  #refreshCount = 0;

  constructor(options: {
    reportAgeMaxMs: number;
    lostHostsPercentMax: number;
    hostsPerChunk?: number;
  }) {
    this.#reportAgeMaxMs = options.reportAgeMaxMs;
    this.#failedPercentMax = options.lostHostsPercentMax;
    this.#hostsPerChunk = options.hostsPerChunk ?? HOSTS_PER_CHUNK;
  }

  /**
   * Loads the fleet unless it is in memory. Concurrent calls share a load. Call it outside of
   * transactions: each chunk is a statement of its own, and the load holds no lock meanwhile.
   */
  async load(q: Queryable): Promise<void> {
    const isStale = Date.now() - (this.#loaded?.refreshedAtMs ?? 0) > UNREFRESHED_MS_MAX;
    if (this.#loaded && !isStale) return;
    this.#loading ??= this.#readAll(q).finally(() => (this.#loading = undefined));
    await this.#loading;
  }

  /**
   * Applies what changed since the last refresh. Pass a transaction: its statements run in order,
   * so the position is older than the changes, and they share one round trip.
   */
  async refresh(q: Queryable): Promise<RefreshedFleet> {
    await this.load(q);
    const loaded = this.#current();
    this.#refreshCount++;
    const changes = await readChanges(q, loaded);
    if (hasServerChanged(changes.position, loaded.position)) {
      this.reset();
      return this.refresh(q);
    }
    this.#apply(loaded, changes);
    const { nowMs } = changes.position;
    if (nowMs - loaded.censusAtMs > HOST_CENSUS_INTERVAL_MS) await takeCensus(q, loaded);
    return { fleet: loaded.fleet, policy: loaded.policy, nowMs };
  }

  /** Refreshes the fleet between plans, or loads it. Do not call it during a plan. */
  async refreshInBackground(db: Db): Promise<void> {
    await this.load(db);
    const loaded = this.#current();
    const refreshCount = this.#refreshCount;
    const isCurrent = () => loaded === this.#loaded && refreshCount === this.#refreshCount;
    const changes = await withTx(db, (tx) => readChanges(tx, loaded));
    if (!isCurrent()) return;
    if (hasServerChanged(changes.position, loaded.position)) {
      this.reset();
      return;
    }
    this.#apply(loaded, changes);
    const { nowMs } = changes.position;
    if (nowMs - loaded.censusAtMs > HOST_CENSUS_INTERVAL_MS) await takeCensus(db, loaded);
  }

  /** The pools whose hosts take new sets in spite of a failed self test, by the last refresh. */
  get ignoredSelfTests(): ReadonlySet<string> {
    return this.#loaded?.ignoredSelfTests ?? new Set();
  }

  hostName(hostId: string): string {
    return this.#loaded?.hosts.get(hostId)?.name ?? hostId;
  }

  /** The version of the host's row (see FleetHostRow) in the fleet. */
  hostVersion(hostId: string): string | undefined {
    return this.#loaded?.hosts.get(hostId)?.version;
  }

  /** Whether a host is networked, by the last refresh. */
  hasNetworks(hostId: string): boolean {
    const host = this.#loaded?.fleet.getHost(hostId);
    return host?.features.includes(NETWORKS_FEATURE) ?? false;
  }

  /** Removes hosts that a placement found to be deleted, before the next census does. */
  forgetHosts(ids: Iterable<string>): void {
    if (this.#loaded) forget(this.#loaded, ids);
  }

  /** Drops the fleet. The next call loads it again. */
  reset(): void {
    this.#loaded = undefined;
  }

  #current(): LoadedFleet {
    assert(this.#loaded, "the fleet is loaded before it is used");
    return this.#loaded;
  }

  async #readAll(q: Queryable): Promise<void> {
    const position = await readRefreshPosition(q);
    const policy = toPlanPolicy(position.pools, this.#reportAgeMaxMs);
    const loaded: LoadedFleet = {
      fleet: createFleet(policy),
      policy,
      position,
      hosts: new Map(),
      failed: new Map(),
      ignoredSelfTests: findPoolsWithIgnoredSelfTest(position.pools, this.#failedPercentMax),
      censusAtMs: position.nowMs,
      refreshedAtMs: Date.now(),
    };
    let hosts: FleetHostRow[];
    let afterId = "";
    do {
      hosts = await listHostsAfter(q, { afterId, limit: this.#hostsPerChunk });
      const ids = hosts.map(({ id }) => id);
      addRows(loaded, hosts, await listSetsOnHosts(q, ids));
      afterId = ids.at(-1) ?? afterId;
    } while (hosts.length === this.#hostsPerChunk);
    this.#loaded = loaded;
  }

  #apply(loaded: LoadedFleet, changes: FleetChanges): void {
    try {
      const policy = toPlanPolicy(changes.position.pools, this.#reportAgeMaxMs);
      if (loaded.policy.version !== policy.version) loaded.fleet.setPolicy(policy);
      loaded.policy = policy;
      ignoreSelfTests(
        loaded,
        findPoolsWithIgnoredSelfTest(changes.position.pools, this.#failedPercentMax),
      );
      addRows(loaded, changes.hosts, changes.sets);
      loaded.fleet.setClaims(changes.position.claims);
      loaded.position = changes.position;
      loaded.refreshedAtMs = Date.now();
    } catch (error) {
      this.reset(); // a part of the changes is in the fleet
      throw error;
    }
  }
}

/**
 * Whether the database failed over, or its server restarted. The new server may lack the last
 * commits of the previous one, and may have reused their transaction ids. In that case a refresh
 * could miss changes, so the cache loads the fleet again.
 */
function hasServerChanged(position: RefreshPosition, known: RefreshPosition): boolean {
  return (
    position.serverStartedAt !== known.serverStartedAt || BigInt(position.xmin) < BigInt(known.xmin)
  );
}

interface FleetChanges {
  position: RefreshPosition;
  hosts: FleetHostRow[];
  sets: FleetSetRow[];
}

async function readChanges(q: Queryable, { position: since }: LoadedFleet): Promise<FleetChanges> {
  const [position, hosts, sets] = await Promise.all([
    readRefreshPosition(q),
    listChangedHosts(q, since.xmin),
    listChangedSets(q, since.xmin),
  ]);
  return { position, hosts, sets };
}

/** Applies a new decision about failed self tests to the hosts whose rows did not change. */
function ignoreSelfTests(loaded: LoadedFleet, pools: ReadonlySet<string>): void {
  const previous = loaded.ignoredSelfTests;
  loaded.ignoredSelfTests = pools;
  for (const host of loaded.failed.values()) {
    if (pools.has(host.pool) !== previous.has(host.pool))
      loaded.fleet.upsertHost(toHostSnapshot(host, pools));
  }
}

function addRows(
  { fleet, hosts: known, failed, ignoredSelfTests }: LoadedFleet,
  hosts: readonly FleetHostRow[],
  sets: readonly FleetSetRow[],
): void {
  for (const host of hosts) {
    fleet.upsertHost(toHostSnapshot(host, ignoredSelfTests));
    if (host.isSelfTestFailed) failed.set(host.id, host);
    else failed.delete(host.id);
    known.set(host.id, { name: host.name, version: host.version });
  }
  for (const { id, serviceId, hostId } of sets) {
    if (hostId === null) fleet.removeSet(id);
    else fleet.upsertSet({ id, serviceId, hostId });
  }
}

function forget({ fleet, hosts, failed }: LoadedFleet, ids: Iterable<string>): void {
  for (const id of ids) {
    fleet.removeHost(id);
    hosts.delete(id);
    failed.delete(id);
  }
}

async function takeCensus(q: Queryable, loaded: LoadedFleet): Promise<void> {
  const { nowMs } = loaded.position;
  const known = [...loaded.hosts.keys()];
  const present = new Set(await listHostIds(q));
  forget(
    loaded,
    known.filter((id) => !present.has(id)),
  );
  loaded.censusAtMs = nowMs;
}
