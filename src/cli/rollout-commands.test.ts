import { expect, test } from "vitest";
import { sampleNowMs } from "../../test/support/api/api-samples.ts";
import { berth, json, page, scriptedApi } from "../../test/support/cli/cli-harness.ts";

const rollout = {
  service: "menu-web",
  number: 7,
  kind: "update",
  state: "running",
  phase: "updating",
  fromRevision: 3,
  toRevision: 4,
  step: 1,
  steps: 3,
  selection: { count: 1 },
  counts: { sets: 6, updated: 1, ready: 0, updating: 1, failed: 0 },
  reason: null as { code: string; text: string } | null,
  message: null,
  requestedBy: "ann",
  changedBy: "ann",
  createdAt: "2026-01-05T10:00:00.000Z",
  startedAt: "2026-01-05T10:00:00.000Z",
  stepBeganAt: "2026-01-05T10:00:00.000Z",
  endedAt: null,
  sets: [
    {
      setId: "set_01jd0000000000000000000001",
      replacementSetId: null,
      step: 1,
      method: "in-place",
      direction: "to",
      beganAt: "2026-01-05T10:00:00.000Z",
      outcome: null,
      reason: null,
    },
  ],
};
const ended = { ...rollout, state: "completed", phase: null, step: 3 };
const paused = {
  ...rollout,
  state: "paused",
  phase: null,
  counts: { ...rollout.counts, updating: 0, failed: 1 },
  reason: { code: "not-ready", text: 'set_01 is not ready after 600 s: "app" exited with code 1.' },
};
const started = { rollout, effects: ['Container "app" gets menu:43 instead of menu:42.'] };
const api = (answer: Parameters<typeof scriptedApi>[0]) => ({
  ...scriptedApi(answer),
  now: () => sampleNowMs,
});

test("start sends the images and the strategy, and prints the effects", async () => {
  const options = api(() => json(started, 202));
  const change = ["--set", "app=menu:43", "--set", "trace=r.example:5000/trace@sha256:0a=b"];
  const steps = ["--steps", "1,25%,100%", "--promote-after", "30s", "--on-failure", "rollback"];
  const more = ["--in-place", "--parallel", "25%", "--progress-deadline", "5m"];
  const last = ["--if-active", "supersede", "--message", "new menu"];
  const argv = ["rollout", "start", "menu-web", ...change, ...steps, ...more, ...last];
  const run = await berth(argv, options);
  expect(run).toMatchObject({ exitCode: 0, stderr: "" });
  expect(run.stdout).toBe(
    'service/menu-web rollout 7 started\n  Container "app" gets menu:43 instead of menu:42.\n',
  );
  const promote = { afterSeconds: 30 };
  expect(options.seen).toMatchObject([
    {
      method: "POST",
      path: "/v1/services/menu-web/rollouts",
      body: {
        containers: {
          app: { image: "menu:43" },
          trace: { image: "r.example:5000/trace@sha256:0a=b" },
        },
        strategy: {
          method: "in-place",
          steps: [
            { select: { count: 1 }, promote },
            { select: { percent: 25 }, promote },
            { select: { percent: 100 } },
          ],
          parallel: "25%",
          progressDeadlineSeconds: 300,
          onFailure: "rollback",
        },
        ifActive: "supersede",
        message: "new menu",
      },
    },
  ]);
});

test("the strategy is that of the service without options", async () => {
  const options = api(() => json(started, 202));
  await berth(["rollout", "start", "menu-web", "--to-revision", "3"], options);
  await berth(["rollout", "restart", "menu-web"], options);
  await berth(["rollout", "restart", "menu-web", "--manual"], options);
  const steps = [{ select: { count: 1 }, promote: "manual" }, { select: { percent: 100 } }];
  expect(options.seen.map(({ body }) => body)).toEqual([
    { toRevision: 3 },
    { restart: true },
    { restart: true, strategy: { steps } },
  ]);
});

test.each([
  ["no change", ["start", "menu-web"], "Set either --set or --to-revision."],
  [
    "two changes",
    ["start", "menu-web", "--set", "app=a:1", "--to-revision", "2"],
    "Set either --set or --to-revision.",
  ],
  ["an image without a container", ["start", "menu-web", "--set", "menu:43"], "app=menu:43"],
  [
    "a container with two images",
    ["start", "menu-web", "--set", "app=a:1", "--set", "app=a:2"],
    "--set names container app twice.",
  ],
  [
    "both methods",
    ["restart", "menu-web", "--in-place", "--start-first"],
    "at most one of --in-place and --start-first",
  ],
  [
    "a step without sets",
    ["restart", "menu-web", "--steps", "0"],
    "--steps 0: expected a number such as 3, or a percentage such as 25%.",
  ],
  ["more than all sets", ["restart", "menu-web", "--steps", "1,101%"], "--steps 101%"],
  ["a number that is none", ["pause", "menu-web", "--number", "0"], "--number 0 is not"],
  [
    "two sizes of a step",
    ["promote", "menu-web", "--to", "1", "--full"],
    "at most one of --to and --full",
  ],
])("refuses %s before any request", async (_fault, argv, message) => {
  const options = api(() => json(started));
  const run = await berth(["rollout", ...argv], options);
  expect(run.exitCode).toBe(2);
  expect(run.stderr).toContain(message);
  expect(options.seen).toEqual([]);
});

test("an action changes the active rollout although a newer one waits", async () => {
  const queued = { ...rollout, number: 8, state: "queued" };
  const options = api(({ method, path }) => {
    if (method === "POST") return json({ rollout: paused, effects: [] });
    return path.endsWith("/8") ? json(queued) : page([queued, rollout, ended]);
  });
  const run = await berth(["rollout", "pause", "menu-web", "--reason", "look"], options);
  expect(run).toMatchObject({ exitCode: 0, stdout: "service/menu-web rollout 7 paused\n" });
  await berth(["rollout", "promote", "menu-web", "--to", "50%"], options);
  await berth(["rollout", "promote", "menu-web", "--full"], options);
  await berth(["rollout", "rollback", "menu-web", "--number", "8"], options);
  const posts = options.seen.filter(({ method }) => method === "POST");
  expect(posts.map(({ path, body }) => [path.split("/rollouts/")[1], body])).toEqual([
    ["7/pause", { reason: "look" }],
    ["7/promote", { select: { percent: 50 } }],
    ["7/promote", { isFull: true }],
    ["8/rollback", {}],
  ]);
});

test("status shows the counts, and the sets that change", async () => {
  const run = await berth(
    ["rollout", "status", "menu-web"],
    api(() => page([rollout])),
  );
  expect(run.stdout.split("\n").map((line) => line.trim().split(/ {2,}/))).toEqual([
    ["NUMBER", "STATE", "STEP", "UPDATED", "READY", "UPDATING", "FAILED", "AGE"],
    ["7", "running", "1/3", "1/6", "0", "1", "0", expect.any(String)],
    [""],
    ["SET", "STEP", "METHOD", "UPDATE"],
    ["set_01jd0000000000000000000001", "1", "in-place", "in progress"],
    [""],
  ]);
  const program = await berth(
    ["rollout", "status", "menu-web", "-o", "json"],
    api(() => page([rollout])),
  );
  expect(JSON.parse(program.stdout)).toEqual(rollout);
});

test("status of a service without a rollout says how to start one", async () => {
  const run = await berth(
    ["rollout", "status", "menu-web"],
    api(() => page([])),
  );
  expect(run.exitCode).toBe(3);
  expect(run.stderr).toContain("Service menu-web has had no rollout.");
  expect(run.stderr).toContain("berth rollout start menu-web --set CONTAINER=IMAGE");
});

/** An API whose waits answer these rollouts one after the other. */
function waiting(...answers: object[]) {
  return api(({ method }, count) => {
    if (method === "POST") return json(started, 202);
    const place = Math.min(count - 2, answers.length - 1);
    return json({ reached: place === answers.length - 1, rollout: answers[place] });
  });
}
const startAndWait = ["rollout", "start", "menu-web", "--set", "app=menu:43", "--wait"];

test("a wait shows each change of the progress until the rollout has completed", async () => {
  const soaking = { ...rollout, phase: "soaking", counts: { ...rollout.counts, ready: 1 } };
  const run = await berth(startAndWait, waiting(rollout, rollout, soaking, ended));
  expect(run.exitCode).toBe(0);
  expect(run.stderr.split("\n")).toEqual([
    "menu-web rollout 7  step 1/3, 1/6 updated, 0 ready, 1 updating",
    "menu-web rollout 7  step 1/3, 1/6 updated, 1 ready, 1 updating, soaking",
    "menu-web rollout 7  completed after 0 ms",
    "",
  ]);
});

test("a wait ends with exit code 8 when a failed set has paused the rollout", async () => {
  const run = await berth(startAndWait, waiting(rollout, paused));
  expect(run.exitCode).toBe(8);
  expect(run.stderr).toContain("Rollout 7 of menu-web is paused: set_01 is not ready after 600 s");
  expect(run.stderr).toContain("berth rollout resume menu-web");
  expect(run.stderr).toContain("berth rollout rollback menu-web");
});

test("a wait succeeds when the next step needs a promotion", async () => {
  const still = { ...rollout, phase: "awaiting-promotion" };
  const run = await berth(startAndWait, waiting(still));
  expect(run.exitCode).toBe(0);
  expect(run.stderr).toContain("waits for a promotion, step 1 of 3");
});

test("a rollback that has returned all sets is a success, and no completed rollout", async () => {
  const returned = { ...ended, state: "rolled-back" };
  const options = api(({ method, path }) => {
    if (method === "POST") return json(started);
    return path.includes("/wait") ? json({ reached: true, rollout: returned }) : page([rollout]);
  });
  const run = await berth(["rollout", "rollback", "menu-web", "--wait"], options);
  expect(run).toMatchObject({ exitCode: 0 });
  expect(run.stderr).toContain("rolled-back after");
  expect((await berth(startAndWait, waiting(returned))).exitCode).toBe(8);
});
