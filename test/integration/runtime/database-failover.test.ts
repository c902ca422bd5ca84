import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { sql } from "drizzle-orm";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { toAppError } from "../../../src/db/errors.ts";
import { migrate } from "../../../src/db/migrate.ts";
import {
  type DbHandle,
  dbForKeyReads,
  openPostgres,
} from "../../../src/db/postgres/open-postgres.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import {
  type PostgresServer,
  startPostgres,
  startStandby,
} from "../../support/servers/postgres-server.ts";
import { waitUntil } from "../../support/wait-until.ts";

/** A primary and its hot standby, as after the setup of streaming replication. */
let primary: PostgresServer;
let standby: Awaited<ReturnType<typeof startStandby>>;
const handles: DbHandle[] = [];

beforeAll(async () => {
  primary = await startPostgres();
  const client = postgres(primary.url, { max: 1 });
  await client`create table marks (id int primary key)`;
  await client.end();
  standby = await startStandby(primary);
}, 300_000);
afterAll(async () => {
  await Promise.all(handles.map((handle) => handle.close()));
  await standby.stop();
  await primary.stop();
});

function open(...servers: readonly PostgresServer[]): DbHandle {
  const handle = openPostgres({
    databaseUrl: urlOf(...servers),
    connectionsMax: 10,
    statementTimeoutMs: 10_000,
  });
  handles.push(handle);
  return handle;
}

function urlOf(...servers: readonly PostgresServer[]): string {
  const hosts = servers.map(({ url }) => new URL(url).host);
  return `postgres://postgres@${hosts.join(",")}/postgres`;
}

const insert = (handle: DbHandle, id: number) =>
  withTx(handle.db, (tx) =>
    tx.execute(sql`insert into marks values (${id}) on conflict do nothing`),
  );

const portOf = async (read: Promise<{ port: number }[]>) => (await read)[0]?.port;
const readPort = (handle: DbHandle) =>
  portOf(queryRows(dbForKeyReads(handle.db), sql`select inet_server_port() as port`));

test("connections go to the primary even if the standby is the first host of the URL", async () => {
  const handle = open(standby, primary);
  await insert(handle, 1);
  expect(await readPort(handle)).toBe(Number(new URL(primary.url).port));
});

test("a database with only a standby is unavailable, even for reads", async () => {
  const handle = open(standby);
  const error: unknown = await readPort(handle).then(() => undefined, toAppError);
  expect(error).toMatchObject({ code: "dependency-unavailable" });
});

test("a first host that accepts connections and never answers is avoided", async () => {
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  const { host } = new URL(primary.url);
  const handle = openPostgres({
    databaseUrl: `postgres://postgres@127.0.0.1:${port},${host}/postgres`,
    connectionsMax: 10,
    statementTimeoutMs: 10_000,
  });
  handles.push(handle);
  const isWritten = await waitUntil("a write succeeds", () => insert(handle, 4).then(() => true));
  expect(isWritten).toBe(true);
  silent.close();
}, 120_000);

test("migrations go to the primary", async () => {
  await migrate(urlOf(standby, primary));
  const rows = await queryRows<{ table: string | null }>(
    open(primary).db,
    sql`select to_regclass('sets')::text as "table"`,
  );
  expect(rows).toEqual([{ table: "sets" }]);
}, 120_000);

test("no connection to the old primary remains after a failover, even if that server still answers reads", async () => {
  const handle = open(primary, standby);
  await insert(handle, 2);
  await readPort(handle);
  const admin = postgres(primary.url, { max: 1 });
  // failover tools fence the old primary like this
  await admin`alter system set default_transaction_read_only = on`;
  await admin`select pg_reload_conf()`;
  await admin.end();
  await standby.promote();
  await waitUntil("writes succeed", () => insert(handle, 3).then(() => true), {
    deadlineMs: 60_000,
  });
  const standbyPort = Number(new URL(standby.url).port);
  await waitUntil("key reads follow", async () => (await readPort(handle)) === standbyPort, {
    deadlineMs: 30_000,
  });
  const marks = await queryRows(handle.db, sql`select id from marks where id = 3`);
  expect(marks).toHaveLength(1);
}, 120_000);
