import { afterAll, beforeAll, expect, it } from "vitest";
import { createConcurrencyLimit } from "../../../src/lib/async/concurrency-limit.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  type TestApi,
} from "../../support/api/test-api.ts";
import { createLocalStreams } from "../../support/fakes/local-streams.ts";
import { waitUntil } from "../../support/wait-until.ts";

const HOSTS = 40;
const ANSWERS_MAX = 4;

let api: TestApi;
let hosts: { hostId: string; credential: string }[];
/** The hosts whose answers began in each turn of the event loop. */
let begunByTurn: string[][];
let isWatching = false;

beforeAll(async () => {
  const streams = createLocalStreams();
  begunByTurn = [[]];
  api = await createTestApi({
    hostAnswerLimit: createConcurrencyLimit(ANSWERS_MAX),
    streams: {
      ...streams,
      takeRequests: (hostId) => {
        begunByTurn.at(-1)?.push(hostId);
        return streams.takeRequests(hostId);
      },
    },
  });
  hosts = [];
  for (let index = 0; index < HOSTS; index++)
    hosts.push(await enrollTestHost(api, `host-${index}`));
});
afterAll(async () => {
  isWatching = false;
  await api.close();
});

function watchTurns(): void {
  if (!isWatching) return;
  if (begunByTurn.at(-1)?.length !== 0) begunByTurn.push([]);
  setImmediate(watchTurns);
}

const sync = (credential: string, waitMs: number): Promise<Response> => {
  const body = { ...emptySync, full: false, waitMs };
  return api.request("POST", "/agent/v1/sync", { token: credential, body });
};

it("answers hosts that one commit wakes a few at a time, so that other requests are not delayed", async () => {
  const waits = hosts.map(({ credential }) => sync(credential, 25_000));
  await waitUntil("all hosts wait", () => begunByTurn.flat().length === HOSTS);
  begunByTurn = [[]];
  isWatching = true;
  watchTurns();
  await api.ctx.signals.publish(hosts.map(({ hostId }) => `host:${hostId}` as const));
  const statuses = (await Promise.all(waits)).map(({ status }) => status);
  expect(statuses).toEqual(hosts.map(() => 200));
  expect(begunByTurn.flat().toSorted()).toEqual(hosts.map(({ hostId }) => hostId).toSorted());
  expect(Math.max(...begunByTurn.map((begun) => begun.length))).toBeLessThanOrEqual(ANSWERS_MAX);
});

it("authenticates concurrent syncs as the hosts that they come from, and refuses a wrong credential", async () => {
  const credentials = hosts.flatMap(({ credential }) => [credential, `${credential}x`]);
  const answers = await Promise.all(credentials.map((credential) => sync(credential, 0)));
  expect(answers.map(({ status }) => status)).toEqual(hosts.flatMap(() => [200, 401]));
});
