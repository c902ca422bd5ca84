import { expect, it } from "vitest";
import { removeService, serviceBody, waitReady } from "../support/modern-host/host-service.ts";
import { requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const service = "clocks";
const deadlineMs = 300_000;

/** Sysctls make infra prepare the network, and the job runs once per start of the set. */
function bodyWithJob(): object {
  const body = serviceBody(service, { sysctls: { "net.core.somaxconn": "777" } }) as {
    template: { containers: { image: string }[] };
  };
  const [app] = body.template.containers;
  const options = { cpu: 50, memory: 50, command: ["/bin/sh", "-c", "exit 0"] };
  body.template.containers.push({
    ...app,
    index: 1,
    name: "job",
    options: { ...options, restart: { on: "never" } },
  } as { image: string });
  return body;
}

/** The containers' ids, and the starts of infra and of the job, by name. */
async function readRuns(setId: string) {
  const format = "{{.Id}} {{.State.StartedAt}}";
  const lines = await Promise.all(
    ["infra", "app", "job"].map((name) =>
      runOnHost(`docker inspect --format '${format}' berth-${setId}-${name}`),
    ),
  );
  const [infra = "", app = "", job = ""] = lines;
  const [appId = "", appStartedAt = ""] = app.split(" ");
  return { infra, job, appId, appStartedAt };
}

it("steps of the wall clock replace no container and repeat no job", async () => {
  await requestBerth("POST", "/v1/services", bodyWithJob());
  const { id } = await waitReady(service);
  const first = await readRuns(id);
  for (const stepSeconds of [-600, 600]) {
    const before = await readRuns(id);
    await runOnHost(`date -s "@$(($(date +%s) + ${stepSeconds}))" && docker kill berth-${id}-app`);
    await waitUntil(
      "the agent restarts the killed container",
      async () => {
        const { appStartedAt } = await readRuns(id);
        const state = await runOnHost(
          `docker inspect --format '{{.State.Running}}' berth-${id}-app`,
        );
        return appStartedAt !== before.appStartedAt && state === "true";
      },
      { deadlineMs, everyMs: 500 },
    );
    const restarted = await readRuns(id);
    await runOnHost("systemctl restart berth-host-agent");
    // In this time a loop that replaces containers makes several rounds.
    await runOnHost("sleep 8");
    await waitReady(service);
    expect(await readRuns(id)).toEqual(restarted);
    const { infra, job, appId } = restarted;
    expect({ infra, job, appId }).toMatchObject({
      infra: first.infra,
      job: first.job,
      appId: first.appId,
    });
  }
  await removeService(service);
});
