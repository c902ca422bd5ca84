import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import Docker from "dockerode";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { HostCredentialState } from "../../src/agent/ports/host-credential-store.ts";
import { hashSecret } from "../../src/lib/token-hash.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { type BerthProcess, startBerth } from "../support/servers/berth-process.ts";
import { type MainProcess, startMain } from "../support/servers/main-process.ts";
import {
  type ProxyStep,
  startSteppingProxy,
  type SteppingProxy,
} from "../support/servers/stepping-proxy.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
} from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

/** The real agent and API rotate the credential of a host, and die at each step. */
const deadlineMs = 120_000;
const rotatePath = "/agent/v1/rotate-credential";
const closing: (() => Promise<unknown>)[] = [];
let folder: string;
let stateFile: string;
let database: TestDatabase;
let berth: BerthProcess;
let proxy: SteppingProxy;
let agent: MainProcess;
let hostId: string;

beforeAll(async () => {
  await ensureBaseImage(new Docker());
  folder = await mkdtemp(path.join(tmpdir(), "berth-rotation-"));
  closing.push(() => rm(folder, { recursive: true, force: true }));
  stateFile = path.join(folder, "agent", "host-agent.json");
  const [created, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  database = created;
  closing.push(() => Promise.all([database.drop(), redis.release()]));
  berth = await startBerth({
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_AGENT_ENABLED: "false",
    BERTH_DATA_DIR: path.join(folder, "berth"),
  });
  closing.push(() => berth.end("SIGKILL"));
  proxy = await startSteppingProxy(berth.apiUrl);
  closing.push(() => proxy.close());
  await writeFile(path.join(folder, "machine-id"), `${"c".repeat(32)}\n`);
  await startAgent();
  hostId = String(agent.ready["hostId"]);
  closing.push(() => removeHost(new Docker(), hostId));
  closing.push(() => agent.end("SIGKILL"));
  await waitUntil("the agent reports that it rotates its credential", canRotate, { deadlineMs });
});
afterAll(async () => {
  for (const close of closing.toReversed()) await close();
});
beforeEach(() => {
  proxy.decide = () => "forward";
  proxy.onAnswerLost = () => undefined;
});

async function startAgent(): Promise<void> {
  const token = { name: "agent", role: "enroll" };
  const { secret } = await berth.request<{ secret: string }>("POST", "/v1/tokens", token);
  agent = await startMain("host-agent", {
    BERTH_API_URL: proxy.url,
    BERTH_ENROLL_TOKEN: secret,
    BERTH_AGENT_NAME: "rotating",
    BERTH_AGENT_DATA_DIR: path.join(folder, "agent"),
    BERTH_AGENT_MACHINE_ID_FILE: path.join(folder, "machine-id"),
    BERTH_AGENT_USAGE_INTERVAL_MS: "1000",
    BERTH_INFRA_IMAGE: baseImage,
  });
}

const getHost = () => berth.request<Host>("GET", `/v1/hosts/${hostId}`);
const requestRotation = () => berth.request<Host>("POST", `/v1/hosts/${hostId}/rotate-credential`);
const canRotate = async () =>
  (await getHost()).capabilities?.features.includes("credential-rotation") === true;

async function readCredentials(): Promise<HostCredentialState> {
  return JSON.parse(await readFile(stateFile, "utf8")) as HostCredentialState;
}

/** The status of the API itself, without the proxy. */
async function statusOf(credential: string): Promise<number> {
  const headers = { authorization: `Bearer ${credential}` };
  return (await fetch(`${berth.apiUrl}/agent/v1/network-state?waitMs=0`, { headers })).status;
}

/** Waits for the end of the rotation, and checks that only the new credential is valid. */
async function expectRotated(before: string): Promise<void> {
  const isEnded = async () => (await getHost()).credential.rotationRequestedAt === null;
  await waitUntil("the rotation has ended", isEnded, { deadlineMs });
  const { credential, nextCredential, previousCredentials } = await readCredentials();
  expect([nextCredential, previousCredentials?.[0]]).toEqual([undefined, before]);
  expect(credential).not.toBe(before);
  expect([await statusOf(credential), await statusOf(before)]).toEqual([200, 401]);
  expect((await stat(stateFile)).mode & 0o777).toBe(0o600);
  const since = Date.now();
  const hasSynced = async () => Date.parse((await getHost()).reported?.at ?? "") > since;
  await waitUntil("the agent reports with it", hasSynced, { deadlineMs });
}

it("the agent replaces its credential soon after the request, and continues to report", async () => {
  const { credential } = await readCredentials();
  await requestRotation();
  await expectRotated(credential);
});

/** The steps of a rotation as the API sees them: with the old credential, and its first use. */
interface Kill {
  at: string;
  isAt: (bearer: string, old: string) => boolean;
  step: ProxyStep;
}
const withOld = (bearer: string, old: string) => bearer === old;
const withNew = (bearer: string, old: string) => bearer !== old;
const kills: Kill[] = [
  { at: "before the API gets the new credential", isAt: withOld, step: "lose-request" },
  { at: "after the API has stored the new credential", isAt: withOld, step: "lose-answer" },
  { at: "before the first use of the new credential", isAt: withNew, step: "lose-request" },
  { at: "after the first use of the new credential", isAt: withNew, step: "lose-answer" },
];

/** Loses one request or answer of the rotation. `kill` runs at that time. */
function loseOne({ isAt, step }: Kill, old: string, kill: () => void): Promise<void> {
  return new Promise((resolve) => {
    const strike = () => {
      kill();
      resolve();
    };
    let hasStruck = false;
    proxy.onAnswerLost = strike;
    proxy.decide = (requested, bearer) => {
      // Nothing passes between the loss and the kill.
      if (hasStruck) return "lose-request";
      const isRotation = requested === rotatePath || bearer !== old;
      if (!isRotation || !isAt(bearer, old)) return "forward";
      hasStruck = true;
      if (step === "lose-request") strike();
      return step;
    };
  });
}

it.each(kills)("a kill of the agent $at locks no host out", async (kill) => {
  const { credential: old } = await readCredentials();
  const struck = loseOne(kill, old, () => process.kill(agent.pid, "SIGKILL"));
  await requestRotation();
  await struck;
  await agent.end("SIGKILL");
  const { credential, nextCredential } = await readCredentials();
  const hasSavedNext = kill.isAt === withOld ? nextCredential !== undefined : credential !== old;
  expect(hasSavedNext).toBe(true);
  expect(await statusOf(credential)).toBe(200);
  proxy.decide = () => "forward";
  await startAgent();
  await expectRotated(old);
});

it.each(kills)("a kill of the API $at locks no host out", async (kill) => {
  const { credential: old } = await readCredentials();
  let ended: Promise<void> = Promise.resolve();
  const struck = loseOne(kill, old, () => {
    ended = berth.end("SIGKILL");
  });
  await requestRotation();
  await struck;
  await ended;
  await berth.startAgain();
  proxy.decide = () => "forward";
  await expectRotated(old);
});

it("a lost answer is repeated with the same credential", async () => {
  const { credential: old } = await readCredentials();
  const sent = new Set<string>();
  let losses = 0;
  proxy.decide = (requested, bearer) => {
    if (requested !== rotatePath) return "forward";
    sent.add(bearer);
    return losses++ < 2 ? "lose-answer" : "forward";
  };
  await requestRotation();
  await expectRotated(old);
  const { credential } = await readCredentials();
  expect([...sent]).toEqual([old, credential]);
});

it("a restored database knows an older credential, which the agent then uses", async () => {
  for (let rotation = 0; rotation < 2; rotation++) {
    const { credential } = await readCredentials();
    await requestRotation();
    await expectRotated(credential);
  }
  const { credential: refused, previousCredentials: [, old = ""] = [] } = await readCredentials();
  const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
  await sql`update hosts set credential_hash = ${hashSecret(old)} where id = ${hostId}`;
  await sql.end();
  expect(await statusOf(refused)).toBe(401);
  const isBack = async () => (await readCredentials()).credential === old;
  await waitUntil("the agent uses the older credential", isBack, { deadlineMs });
  await requestRotation();
  await expectRotated(old);
});

it("the agent finds a credential that Berth uses and its own state calls a previous one", async () => {
  // As after a late answer, or between APIs of two releases.
  const { credential, previousCredentials = [] } = await readCredentials();
  const [other = ""] = previousCredentials;
  const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
  for (const known of [other, credential]) {
    await sql`update hosts set credential_hash = ${hashSecret(known)} where id = ${hostId}`;
    const isBack = async () => (await readCredentials()).credential === known;
    await waitUntil("the agent uses the credential that Berth knows", isBack, { deadlineMs });
    expect(await statusOf(known)).toBe(200);
  }
  await sql.end();
});
