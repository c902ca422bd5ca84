import { setTimeout as delay } from "node:timers/promises";
import { sql } from "drizzle-orm";
import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
import { bindWork } from "../../../src/control/runtime/bind-work.ts";
import { readByKey } from "../../../src/db/queries/runtime/query.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";

/** An answer that takes longer has waited for the lock of another session. */
const ANSWER_MAX_MS = 1_500;
const HOSTS = 24;

let api: TestApi;
let other: postgres.Sql;
let hosts: { hostId: string; credential: string }[];

beforeAll(async () => {
  api = await createTestApi();
  other = postgres(api.databaseUrl, { max: 2, onnotice: () => undefined });
  hosts = [];
  for (let index = 0; index < HOSTS; index += 1)
    hosts.push(await enrollTestHost(api, `host-${index}`));
  for (const { credential } of hosts) await report(credential);
});
afterAll(async () => {
  await other.end();
  await api.close();
});

const usage = {
  used: { cpuMillis: 100, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 1 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 2 ** 33, volumeBytes: 0, rootfsBytes: 2 ** 36 },
};
const report = (credential: string): Promise<Response> =>
  api.request("POST", "/agent/v1/sync", {
    token: credential,
    body: { ...emptySync, full: false, usage },
  });

/** Runs `work` while another session holds the rows that `lock` selects. */
async function whileLocked(
  lock: (sql: postgres.TransactionSql) => Promise<unknown>,
  work: () => Promise<void>,
): Promise<void> {
  await other.begin(async (sql) => {
    await lock(sql);
    await work();
  });
}

it("I15: authenticates while every host row is locked and all hosts report their usage", async () => {
  const token = await api.tokenOf("read");
  const reports: Promise<Response>[] = [];
  await whileLocked(
    (sql) => sql`select 1 from hosts for update`,
    async () => {
      for (const { credential } of hosts) reports.push(report(credential));
      await delay(200);
      for (let round = 0; round < 5; round += 1) {
        api.ctx.tokenCache.clear();
        const startedAtMs = performance.now();
        const answer = await Promise.race([
          api.request("GET", "/v1/services", { token }).then(({ status }) => status),
          delay(ANSWER_MAX_MS, "late"),
        ]);
        expect(answer).toBe(200);
        expect(performance.now() - startedAtMs).toBeLessThan(ANSWER_MAX_MS);
      }
    },
  );
  // A report whose row is locked is not stored: the next report repeats it.
  expect(new Set((await Promise.all(reports)).map(({ status }) => status))).toEqual(new Set([200]));
});

it("I15: authenticates while the reads of agents take seconds on all their connections", async () => {
  const token = await api.tokenOf("read");
  const { db } = bindWork(api.ctx, { kind: "agent" });
  const reads = [1, 2, 3, 4].map(() => readByKey(db, sql`select pg_sleep(1)`));
  await delay(200); // the statements have been sent
  api.ctx.tokenCache.clear();
  const answer = api.request("GET", "/v1/tokens", { token }).then(({ status }) => status);
  const first = await Promise.race([answer, Promise.all(reads).then(() => "late")]);
  expect(first).toBe(await answer);
  await Promise.all(reads);
});

it("I15: serves a tenant while changes of another tenant wait for locked rows", async () => {
  const slow = await api.tokenOf("tenant", "slow");
  const quick = await api.tokenOf("tenant", "quick");
  for (let index = 0; index < 16; index += 1) {
    await api.request("POST", "/v1/services", {
      token: slow,
      body: serviceBody(`web-${index}`, { replicas: 1 }),
    });
  }
  const blocked: Promise<Response>[] = [];
  await whileLocked(
    (sql) => sql`select 1 from services where name like 'web-%' for update`,
    async () => {
      for (let index = 0; index < 16; index += 1) {
        blocked.push(
          api.request("POST", `/v1/services/web-${index}/scale`, {
            token: slow,
            body: { replicas: 2 },
          }),
        );
      }
      await delay(200);
      const create = api.request("POST", "/v1/services", {
        token: quick,
        body: serviceBody("api"),
      });
      const scale = create.then(() =>
        api.request("POST", "/v1/services/api/scale", { token: quick, body: { replicas: 3 } }),
      );
      const answer = await Promise.race([
        scale.then(({ status }) => status),
        delay(ANSWER_MAX_MS, "late"),
      ]);
      expect(answer).toBe(200);
    },
  );
  expect(new Set((await Promise.all(blocked)).map(({ status }) => status))).toEqual(new Set([200]));
});

it("I15: queues changes of one service in the process, with at most one connection", async () => {
  const token = await api.tokenOf("tenant", "busy");
  await api.request("POST", "/v1/services", { token, body: serviceBody("one") });
  const changes: Promise<Response>[] = [];
  await whileLocked(
    (sql) => sql`select 1 from services where name = 'one' for update`,
    async () => {
      for (let replicas = 0; replicas < 60; replicas += 1) {
        changes.push(
          api.request("POST", "/v1/services/one/scale", {
            token,
            body: { replicas: replicas % 3 },
          }),
        );
      }
      await delay(300);
      const [row] = await other<{ count: number }[]>`
        select count(*)::int as count from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`;
      expect(row?.count).toBe(1);
    },
  );
  const statuses = (await Promise.all(changes)).map(({ status }) => status);
  expect(new Set(statuses)).toEqual(new Set([200, 503]));
  expect(statuses.filter((status) => status === 200)).toHaveLength(33);
});

it("I15: releases the place of a disconnected client in the queue of a service", async () => {
  const token = await api.tokenOf("tenant", "impatient");
  await api.request("POST", "/v1/services", { token, body: serviceBody("queue") });
  const scale = (signal?: AbortSignal) =>
    api.request("POST", "/v1/services/queue/scale", {
      token,
      body: { replicas: 1 },
      ...(signal ? { signal } : {}),
    });
  let first: Promise<Response> | undefined;
  let patient: Promise<Response>[] = [];
  await whileLocked(
    (sql) => sql`select 1 from services where name = 'queue' for update`,
    async () => {
      first = scale();
      await delay(200);
      const client = new AbortController();
      const impatient = Array.from({ length: 32 }, () => scale(client.signal));
      await delay(200);
      expect((await scale()).status).toBe(503); // the queue is full
      client.abort();
      const left = (await Promise.all(impatient)).map(({ status }) => status);
      expect(new Set(left)).toEqual(new Set([503]));
      patient = Array.from({ length: 20 }, () => scale());
      await delay(200);
    },
  );
  const statuses = (await Promise.all([first, ...patient])).map((response) => response?.status);
  expect(new Set(statuses)).toEqual(new Set([200]));
});
