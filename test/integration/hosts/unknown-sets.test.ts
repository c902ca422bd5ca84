import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { deleteUnknownSets } from "../../../src/control/hosts/delete-unknown-sets.ts";
import { getHost } from "../../../src/control/hosts/get-host.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { newId } from "../../../src/lib/ids.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";

let fleet: FleetContext | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

async function startHost(): Promise<{ f: FleetContext; hostId: string; setId: string }> {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const { sets } = await f.sync(hostId, { full: true });
  return { f, hostId, setId: sets[0]?.setId ?? "" };
}

async function readEvents(f: FleetContext): Promise<{ kind: string; data: unknown }[]> {
  return queryRows(
    f.ctx.db,
    sql`select kind, data from events where kind like 'host-unknown%' order by id`,
  );
}

test("I17: sets that the database does not know stay, and one event and the host name them", async () => {
  const { f, hostId } = await startHost();
  const lost = [newId("set"), newId("set")].toSorted();
  for (let count = 0; count < 3; count++) {
    const answer = await f.sync(hostId, { full: true, unlistedSets: lost });
    expect(answer.setsToRemove).toEqual([]);
  }
  expect(await readEvents(f)).toEqual([{ kind: "host-unknown-sets", data: { sets: 2 } }]);
  const host = await getHost(f.ctx, hostId);
  expect(host.unknownSets).toEqual(lost);
  expect(host.reason).toMatchObject({ code: "unknown-sets" });
  expect(host.state).toBe("ready");

  const third = newId("set");
  await f.sync(hostId, { full: true, unlistedSets: [...lost, third] });
  expect(await readEvents(f)).toHaveLength(2);
  // A new agent process does not know yet which sets are unlisted.
  await f.sync(hostId, { full: true });
  expect((await getHost(f.ctx, hostId)).unknownSets).toEqual([...lost, third].toSorted());
  expect(await readEvents(f)).toHaveLength(2);
  await f.sync(hostId, { full: true, unlistedSets: [] });
  const after = await getHost(f.ctx, hostId);
  expect(after).toMatchObject({ unknownSets: [], reason: null });
});

test("the agent deletes unknown sets once an operator orders it, and no later ones", async () => {
  const { f, hostId } = await startHost();
  const [ordered, later] = [newId("set"), newId("set")];
  await f.sync(hostId, { full: true, unlistedSets: [ordered] });
  await deleteUnknownSets(f.ctx, hostId);
  const answer = await f.sync(hostId, { full: true, unlistedSets: [ordered, later].toSorted() });
  expect(answer.setsToRemove).toEqual([ordered]);
  await f.sync(hostId, { full: true, unlistedSets: [later] });
  expect((await getHost(f.ctx, hostId)).unknownSets).toEqual([later]);
  const kinds = (await readEvents(f)).map(({ kind }) => kind);
  expect(kinds).toEqual(["host-unknown-sets", "host-unknown-sets-deleted", "host-unknown-sets"]);
});

test("a set that Berth has deleted is removed from a host that still has it", async () => {
  const { f, hostId, setId } = await startHost();
  await queryRows(
    f.ctx.db,
    sql`update sets set host_id = null, deleted_at = now(), state = 'stopped', desired = 'deleted' where id = ${setId}`,
  );
  const answer = await f.sync(hostId, { full: true, unlistedSets: [setId] });
  expect(answer.setsToRemove).toEqual([setId]);
  expect(await readEvents(f)).toEqual([]);
});

test.each([
  { volumeBytes: 0, isReplaced: true },
  { volumeBytes: 1, isReplaced: false },
])(
  "I13, I17: a set of a restored database on its previous host replaces only a set without a volume ($volumeBytes bytes)",
  async ({ volumeBytes, isReplaced }) => {
    const { f, hostId, setId } = await startHost();
    const next = await f.enroll("h0");
    // The backup says that the set is ready on its previous host. It may have ended there since.
    await queryRows(
      f.ctx.db,
      sql`update sets set state = 'running', ready = true, ready_since = now(), volume_bytes = ${volumeBytes} where id = ${setId}`,
    );
    const syncNext = () => f.sync(next, { full: true, unlistedSets: [setId] });
    const report = async (ready: boolean) => {
      const { sets, reportAgain } = await f.sync(hostId, { full: true });
      const entries = sets.filter((set) => set.setId === setId);
      await f.sync(hostId, { observed: entries.map((set) => observed(set, "running", { ready })) });
      return reportAgain.includes(setId);
    };
    // The previous host is faster. Its report changes nothing in the database.
    expect(await report(true)).toBe(false);
    for (let count = 0; count < 2; count++) expect((await syncNext()).setsToRemove).toEqual([]);
    expect((await getHost(f.ctx, next)).unknownSets).toEqual([setId]);
    expect(await report(false)).toBe(true);
    expect((await syncNext()).setsToRemove).toEqual([]);
    expect(await report(true)).toBe(true);
    expect(await report(true)).toBe(false);
    expect((await syncNext()).setsToRemove).toEqual(isReplaced ? [setId] : []);
  },
);

test("I17: a set of a restored database that is ready before its copy is reported replaces it", async () => {
  const { f, hostId, setId } = await startHost();
  const next = await f.enroll("h0");
  const { sets } = await f.sync(hostId, { full: true });
  const reports = sets.filter((set) => set.setId === setId).map((set) => observed(set, "running"));
  await f.sync(hostId, { observed: reports });
  const syncNext = () => f.sync(next, { full: true, unlistedSets: [setId] });
  expect((await syncNext()).setsToRemove).toEqual([]);
  expect((await f.sync(hostId, { full: true })).reportAgain).toEqual([setId]);
  await f.sync(hostId, { observed: reports });
  expect((await syncNext()).setsToRemove).toEqual([setId]);
});

test("a full answer to a sync that requests none forgets no unknown set", async () => {
  const { f, hostId } = await startHost();
  const lost = newId("set");
  const before = await f.sync(hostId, { full: true, unlistedSets: [lost] });
  // The agent is ahead, so the answer is full.
  const ahead = await f.sync(hostId, { acceptedGeneration: before.hostGeneration + 1 });
  expect(ahead).toMatchObject({ full: true, setsToRemove: [] });
  expect((await getHost(f.ctx, hostId)).unknownSets).toEqual([lost]);
});

test("a sync without unlisted sets stores nothing", async () => {
  const { f, hostId } = await startHost();
  const answer = await f.sync(hostId, { full: true });
  expect(answer.setsToRemove).toEqual([]);
  expect((await f.sync(hostId, {})).setsToRemove).toBeUndefined();
});
