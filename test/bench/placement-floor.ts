import postgres from "postgres";
import { migrate } from "../../src/db/migrate.ts";
import { newId } from "../../src/lib/ids.ts";

/**
 * The floor of durable placement. One bare statement for each 4,000 sets writes the rows of the
 * placement commit. The tables have all indexes and triggers, and one connection to the same
 * Postgres writes them.
 *
 * The floor has a database of its own, with copies of the live hosts and of one pending set. So no
 * job worker reads its rows, and a column that a migration adds appears here too.
 */

const STATEMENT_SETS = 4_000;
const SETS_PER_HOST = 60;
const databaseName = "berth_floor";

export interface FloorRun {
  sets: number;
  tookMs: number;
}

export interface PlacementFloor {
  /** Inserts so many pending sets, then measures how long their placement takes. */
  measurePlacement(sets: number): Promise<FloorRun>;
  /** Commits one row, and gives the milliseconds that the commit takes. */
  measureCommit(): Promise<number>;
  stop(): Promise<void>;
}

/**
 * Copies every host of the live database, and one pending set with its service.
 * @param pendingServiceId a service of which at least one set is pending
 */
export async function preparePlacementFloor(
  live: postgres.Sql,
  liveUrl: string,
  pendingServiceId: string,
): Promise<PlacementFloor> {
  await live.unsafe(`create database ${databaseName}`);
  const url = Object.assign(new URL(liveUrl), { pathname: `/${databaseName}` }).href;
  await migrate(url);
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  const commits = postgres(url, { max: 1, onnotice: () => undefined });
  const stop = async (): Promise<void> => {
    await Promise.all([sql.end({ timeout: 5 }), commits.end({ timeout: 5 })]);
    await live.unsafe(`drop database ${databaseName} with (force)`);
  };
  try {
    await commits`create table commit_probe (id bigint generated always as identity primary key, at timestamptz not null)`;
    await copyRows(live, sql, pendingServiceId);
    return {
      measurePlacement: (sets) => measurePlacement(sql, pendingServiceId, sets),
      async measureCommit() {
        const startedAtMs = performance.now();
        await commits`insert into commit_probe (at) values (now())`;
        return performance.now() - startedAtMs;
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The order satisfies the foreign keys. */
async function copyRows(from: postgres.Sql, to: postgres.Sql, serviceId: string): Promise<void> {
  const selections: Record<string, string> = {
    tenants: "true",
    host_pools: "true",
    hosts: "true",
    services: `id = '${serviceId}'`,
    revisions: `service_id = '${serviceId}'`,
    sets: `id = (select min(id) from sets where service_id = '${serviceId}' and host_id is null)`,
  };
  for (const [table, condition] of Object.entries(selections)) {
    await to.unsafe(`truncate ${table} cascade`);
    // Postgres refuses to insert a generated column.
    const columns = await from<{ name: string }[]>`
      select quote_ident(attname) as name from pg_attribute
      where attrelid = ${table}::regclass and attnum > 0 and not attisdropped and attgenerated = ''`;
    const [rows] = await from.unsafe<{ json: string }[]>(
      `select coalesce(json_agg(t), '[]')::text as json from ${table} t where ${condition}`,
    );
    const list = columns.map(({ name }) => name).join(", ");
    await to.unsafe(
      `insert into ${table} (${list})
       select ${list} from json_populate_recordset(null::${table}, $1::text::json)`,
      [rows?.json ?? "[]"],
    );
  }
}

async function measurePlacement(
  sql: postgres.Sql,
  serviceId: string,
  sets: number,
): Promise<FloorRun> {
  const setIds = Array.from({ length: sets }, () => newId("set"));
  await sql`
    insert into sets
    select (jsonb_populate_record(null::sets, to_jsonb(pending) || jsonb_build_object('id', ids.id))).*
    from (select * from sets where service_id = ${serviceId} and host_id is null order by id limit 1) pending,
      unnest(${setIds}::text[]) as ids(id)`;
  await sql`vacuum analyze sets`;
  const hosts = await sql<{ id: string }[]>`
    select id from hosts where allocatable_cpu_millis > 0 order by allocated_cpu_millis, id
    limit ${Math.ceil(sets / SETS_PER_HOST)}`;
  const hostIds = setIds.map(
    (_, index) => hosts[Math.floor(index / SETS_PER_HOST) % hosts.length]?.id,
  );
  const placementIds = setIds.map(() => newId("plc"));
  const startedAtMs = performance.now();
  for (let first = 0; first < sets; first += STATEMENT_SETS) {
    const after = first + STATEMENT_SETS;
    await placeSets(sql, {
      setIds: setIds.slice(first, after),
      hostIds: hostIds.slice(first, after).map(String),
      placementIds: placementIds.slice(first, after),
    });
  }
  return { sets, tookMs: performance.now() - startedAtMs };
}

/** Writes what a placement commit writes, without any check. */
async function placeSets(
  sql: postgres.Sql,
  planned: { setIds: string[]; hostIds: string[]; placementIds: string[] },
): Promise<void> {
  const { count } = await sql`
    with planned as materialized (
      select * from unnest(${planned.setIds}::text[], ${planned.hostIds}::text[], ${planned.placementIds}::text[])
        as p(set_id, host_id, placement_id)
    ), placed as (
      update sets s set state = 'placed', host_id = p.host_id, host_generation = h.generation + 1,
        generation = s.generation + 1, placed_at = now(), updated_at = now()
      from planned p join hosts h on h.id = p.host_id
      where s.id = p.set_id
      returning s.id, s.tenant_id, s.service_id, s.host_id, s.generation, s.cpu_millis, s.memory_bytes,
        s.volume_bytes, s.rootfs_bytes, p.placement_id, h.name as host_name
    ), booked as (
      update hosts h set generation = h.generation + 1,
        allocated_cpu_millis = allocated_cpu_millis + p.cpu, unreported_cpu_millis = unreported_cpu_millis + p.cpu,
        allocated_memory_bytes = allocated_memory_bytes + p.memory, unreported_memory_bytes = unreported_memory_bytes + p.memory,
        allocated_volume_bytes = allocated_volume_bytes + p.volume, unreported_volume_bytes = unreported_volume_bytes + p.volume,
        allocated_rootfs_bytes = allocated_rootfs_bytes + p.rootfs, unreported_rootfs_bytes = unreported_rootfs_bytes + p.rootfs
      from (select host_id, sum(cpu_millis) as cpu, sum(memory_bytes) as memory, sum(volume_bytes) as volume,
              sum(rootfs_bytes) as rootfs from placed group by host_id) p
      where h.id = p.host_id
    ), recorded as (
      insert into placements (id, set_id, host_id, generation, policy_version, score, because)
      select placement_id, id, host_id, generation, 1, 1000, '{"packing": 812345, "images": 75000}' from placed
    )
    insert into events (kind, tenant_id, service_id, set_id, host_id, generation, text)
    select 'set-placed', tenant_id, service_id, id, host_id, generation, 'Placed on host ' || host_name || '.' from placed`;
  if (count !== planned.setIds.length) {
    throw new Error(`the floor placed ${count} of ${planned.setIds.length} sets`);
  }
}

/** Sets per second over all runs. */
export function perSecondOf(runs: readonly FloorRun[]): number {
  const sets = runs.reduce((sum, run) => sum + run.sets, 0);
  const tookMs = runs.reduce((sum, run) => sum + run.tookMs, 0);
  return Math.round((sets * 1000) / tookMs);
}
