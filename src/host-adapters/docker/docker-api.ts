import type Docker from "dockerode";
import { AgentError } from "../../agent/base/agent-error.ts";
import { callDocker } from "./call-docker.ts";
import { parseAnswer, versionAnswer } from "./docker-answers.ts";

/** The versions of Docker's API that the agent knows: Docker 20.10 to 29. */
const oldestKnown = "1.41";
const newestKnown = "1.51";

interface VersionedModem {
  version?: string | undefined;
  dial(
    options: {
      path: string;
      method: "GET";
      abortSignal: AbortSignal;
      options?: object;
      statusCodes: Record<number, boolean | string>;
    },
    callback: (error: unknown, answer: unknown) => void,
  ): void;
}

/**
 * Makes the client use the newest version of the API that the agent and the daemon know. Without a
 * version, each upgrade of the daemon would change the contract. The daemon may change at each
 * reconnect, so repeat it then. Rejects with AgentError, with the code "not-supported" if there is
 * no common version.
 */
export async function negotiateApi(
  docker: Docker,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const modem = docker.modem as VersionedModem;
  // The daemon answers this path in any version, and it refuses a version that it does not know.
  const unversioned = Object.create(modem, { version: { value: undefined } }) as VersionedModem;
  const answer = await callDocker({ phase: "observe", timeoutMs }, signal, (abortSignal) =>
    getJson(unversioned, "/version", undefined, abortSignal),
  );
  const daemon = parseAnswer(versionAnswer, answer, { call: "GET /version", phase: "observe" });
  modem.version = `v${chooseVersion(daemon.ApiVersion, daemon.MinAPIVersion)}`;
}

/** Exported for tests. Throws an AgentError if the daemon is too old or too new. */
export function chooseVersion(newest: string, oldest = oldestKnown): string {
  const chosen = isBefore(newest, newestKnown) ? newest : newestKnown;
  if (isBefore(newest, oldestKnown) || isBefore(chosen, oldest)) {
    throw new AgentError(
      "not-supported",
      `Docker's API ${oldest} to ${newest} is not supported. This agent needs a version from ${oldestKnown} to ${newestKnown} (Docker 20.10 to 29).`,
      { phase: "observe", temporary: true },
    );
  }
  return chosen;
}

function isBefore(version: string, other: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [otherMajor = 0, otherMinor = 0] = other.split(".").map(Number);
  return major < otherMajor || (major === otherMajor && minor < otherMinor);
}

/** A call with a query that the client does not offer. */
export function getDockerJson(
  docker: Docker,
  path: string,
  query: Record<string, string | string[]>,
  abortSignal: AbortSignal,
): Promise<unknown> {
  return getJson(docker.modem, path, query, abortSignal);
}

function getJson(
  modem: VersionedModem,
  path: string,
  query: Record<string, string | string[]> | undefined,
  abortSignal: AbortSignal,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const options = {
      // The client appends the query to a path that ends with a question mark.
      path: query ? `${path}?` : path,
      method: "GET" as const,
      abortSignal,
      ...(query ? { options: query } : {}),
      statusCodes: { 200: true, 400: "bad parameter", 409: "conflict", 500: "server error" },
    };
    modem.dial(options, (error, answer) => {
      if (error) reject(error);
      else resolve(answer);
    });
  });
}
