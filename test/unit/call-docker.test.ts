import { pino } from "pino";
import { expect, it } from "vitest";
import { AgentError } from "../../src/agent/base/agent-error.ts";
import {
  callDocker,
  dockerMessage,
  dockerStatus,
  findRefusal,
} from "../../src/host-adapters/docker/call-docker.ts";

const { signal } = new AbortController();

/** The error of a call that the client rejects in the form of docker-modem. */
function refusedBy(statusCode: number, message: string): Promise<unknown> {
  const error = new Error(`(HTTP code ${statusCode}) server error - ${message} `);
  const refused = Object.assign(error, { statusCode, json: { message } });
  const call = callDocker({ phase: "start", timeoutMs: 30_000 }, signal, () =>
    Promise.reject(refused),
  );
  return call.catch((caught: unknown) => caught);
}

it("has the daemon's message once in the log line of a refusal", async () => {
  const error = await refusedBy(500, "no space left on device");
  expect(error).toMatchObject({ code: "docker-error", phase: "start", temporary: true });
  expect(pino.stdSerializers.err(error as Error).message).toBe("Docker: no space left on device");
});

it("has the daemon's message once in the log line of a more specific error", async () => {
  const refused = await refusedBy(400, "exec format error");
  const message = `"app" cannot be started: ${dockerMessage(refused)}`;
  const options = { phase: "start" as const, temporary: false, cause: findRefusal(refused) };
  const error = new AgentError("start-failed", message, options);
  expect(pino.stdSerializers.err(error).message).toBe(message);
});

it("exposes the status and the message of a refusal", async () => {
  const error = await refusedBy(409, "the name is already in use");
  expect(dockerStatus(error)).toBe(409);
  expect(dockerMessage(error)).toBe("the name is already in use");
});
