import { request } from "node:http";
import { z } from "zod";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { NetworkDriverPort } from "../../agent/ports/network-driver-port.ts";
import { driverStatusSchema } from "../../contracts/network-driver/driver-status.ts";
import { runAbortable } from "../../lib/async/abort.ts";

const statusTimeoutMs = 2_000;
/** Longer than the driver waits for the switch. */
const stateTimeoutMs = 15_000;
const answerBytesMax = 1_048_576;

const acceptedSchema = z.object({ isApplied: z.boolean() });
const refusalSchema = z.object({ error: z.string() });

/** NetworkDriverPort over the driver's control socket. Each call has a connection of its own. */
export function createNetworkDriverClient(socketPath: string): NetworkDriverPort {
  return {
    async status(signal) {
      const call = { method: "GET", path: "/v1/status", timeoutMs: statusTimeoutMs };
      return driverStatusSchema.parse(await callDriver(socketPath, call, signal));
    },
    async putNetworkState(state, signal) {
      const call = {
        method: "PUT",
        path: "/v1/network-state",
        timeoutMs: stateTimeoutMs,
        body: JSON.stringify(state),
      };
      return acceptedSchema.parse(await callDriver(socketPath, call, signal));
    },
  };
}

interface DriverCall {
  method: string;
  path: string;
  timeoutMs: number;
  body?: string;
}

/** Returns the body of a successful answer. */
async function callDriver(
  socketPath: string,
  call: DriverCall,
  signal: AbortSignal,
): Promise<unknown> {
  const { method, path, timeoutMs } = call;
  const onLate = (): never => {
    throw failure(`it does not answer within ${timeoutMs} ms`);
  };
  const answer = await runAbortable({ signal, deadline: { timeoutMs, onLate } }, (abortSignal) =>
    send(socketPath, call, abortSignal),
  ).catch((error: unknown) => {
    signal.throwIfAborted();
    throw error instanceof AgentError
      ? error
      : failure(error instanceof Error ? error.message : String(error), error);
  });
  const body = readJson(answer.text);
  if (answer.status === 200) return body;
  const refusal = refusalSchema.safeParse(body).data?.error ?? answer.text.slice(0, 200);
  throw failure(`${method} ${path} was answered with ${answer.status}: ${refusal}`);
}

function send(
  socketPath: string,
  { method, path, body }: DriverCall,
  signal: AbortSignal,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = { socketPath, method, path, signal, agent: false };
    const sent = request(options, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > answerBytesMax) sent.destroy(new Error("its answer is too large"));
        else chunks.push(chunk);
      });
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(chunks).toString("utf8"),
        }),
      );
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Undefined for text that is not JSON: no schema accepts it. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function failure(detail: string, cause?: unknown): AgentError {
  const message = `the network driver of this host: ${detail}`;
  const options = { phase: "prepare" as const, temporary: true, cause };
  return new AgentError("network-driver-failed", message, options);
}
