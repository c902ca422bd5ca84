import type Docker from "dockerode";
import { createFairLimit } from "../../lib/async/fair-limit.ts";
import { AgentError } from "../../agent/base/agent-error.ts";
import type {
  PullCredential,
  RegistryCredentials,
} from "../../agent/model/registry-credentials.ts";
import { DOCKER_HUB, findRegistry } from "../../contracts/common/image-registry.ts";
import { linkAbort, runAbortable } from "../../lib/async/abort.ts";
import { callDocker, dockerMessage, dockerStatus, findRefusal } from "./call-docker.ts";
import { readProgress } from "./progress.ts";

/**
 * Deadline of a pull without any progress. Docker reports none while it unpacks a layer, which
 * takes minutes for a large one.
 */
const idleTimeoutMsDefault = 10 * 60_000;
/** A slow line may take hours for a large image. */
const pullTimeoutMs = 6 * 60 * 60_000;
const pullsMax = 8;
/** A pull that takes longer only waits for its registry, so the next one may begin. */
const pullSlowMs = 30_000;
const slowPullsMax = 64;
const pullsPerTenantMax = 32;

/**
 * Messages of registries that answered that they do not have the image. A registry that refuses
 * access is not among them: an outage of its token service looks the same.
 */
const unknownImage =
  /manifest unknown|name unknown|manifest for .* not found|failed to resolve reference .*: not found|invalid reference|unsupported manifest|no matching manifest/i;
/** A proxy that answers 404 with a page of its own is not a registry. */
const notOfRegistry = /error parsing HTTP \d+ response body|unexpected status/i;

/** Messages of registries that want a credential, or another one. */
const refusedAccess =
  /unauthorized|denied|forbidden|authentication required|no basic auth credentials|incorrect username or password|authorization failed|\b40[13]\b/i;

/**
 * Pulls an image from the registry in its name. Concurrent pulls of one image by one tenant share
 * one pull.
 */
export type PullImage = (
  reference: string,
  tenant: string,
  signal: AbortSignal,
) => Promise<PullAccess>;
export type PullAccess = "anonymous" | "credential";

/**
 * Creates a puller that rejects with AgentError in the phase "image". Its codes:
 *
 * - image-not-found (permanent): the registry has no such image.
 * - image-unavailable (temporary): the registry is unreachable, refuses now, or the pull makes no
 *   progress for ten minutes. If the registry refuses access, the message says how to store a
 *   credential.
 * - docker-unavailable: the daemon is unreachable.
 *
 * At most 8 pulls run at a time, and tenants take turns. A pull that takes 30 s gives its slot
 * back, and up to 64 such pulls run besides. Each pull reads the credential of its tenant when it
 * starts, so a retry uses a new one.
 */
export function createPullImage(
  docker: Docker,
  {
    pullIdleTimeoutMs: idleTimeoutMs = idleTimeoutMsDefault,
    registryCredentials,
  }: {
    pullIdleTimeoutMs?: number | undefined;
    registryCredentials?: RegistryCredentials | undefined;
  },
): PullImage {
  const inFlight = new Map<string, SharedPull>();
  const limit = createFairLimit({
    callsMax: pullsMax,
    slowMs: pullSlowMs,
    slowMax: slowPullsMax,
    callsPerKeyMax: pullsPerTenantMax,
  });
  const startPull = (reference: string, tenant: string): SharedPull => {
    const controller = new AbortController();
    const done = limit(tenant, async () => {
      controller.signal.throwIfAborted();
      const credential = registryCredentials?.find(tenant, reference);
      await pullImage(docker, { reference, credential, idleTimeoutMs }, controller.signal);
      return credential ? "credential" : "anonymous";
    });
    done.catch(() => undefined); // remaining waiters get the error
    return { done, waiters: 0, controller };
  };
  return async (reference, tenant, signal) => {
    signal.throwIfAborted();
    const key = `${tenant} ${reference}`;
    const shared = inFlight.get(key) ?? startPull(reference, tenant);
    inFlight.set(key, shared);
    shared.waiters += 1;
    try {
      return await runAbortable({ signal }, () => shared.done);
    } finally {
      shared.waiters -= 1;
      if (shared.waiters === 0) {
        if (inFlight.get(key) === shared) inFlight.delete(key);
        shared.controller.abort();
      }
    }
  };
}

interface SharedPull {
  done: Promise<PullAccess>;
  waiters: number;
  /** Aborted when the last waiter has stopped waiting. */
  controller: AbortController;
}

interface Pull {
  reference: string;
  /** Undefined for an anonymous pull. */
  credential: PullCredential | undefined;
  idleTimeoutMs: number;
}

async function pullImage(docker: Docker, pull: Pull, signal: AbortSignal): Promise<void> {
  const { reference, credential, idleTimeoutMs } = pull;
  const { controller, unlink } = linkAbort(signal);
  const onIdle = () => controller.abort(toIdleError(reference, idleTimeoutMs));
  const timer = setTimeout(onIdle, idleTimeoutMs);
  const call = { phase: "image" as const, timeoutMs: pullTimeoutMs };
  try {
    await callDocker(call, controller.signal, async (abortSignal) => {
      const progress = await docker.createImage(credential && toAuthConfig(credential), {
        ...pullQuery(reference),
        abortSignal,
      });
      const failure = await readProgress(progress, () => timer.refresh());
      if (failure !== undefined) throw toPullError(pull, failure);
    });
  } catch (error) {
    const isUnreachable = dockerStatus(error) === undefined;
    throw isUnreachable ? error : toPullError(pull, dockerMessage(error), findRefusal(error));
  } finally {
    clearTimeout(timer);
    unlink();
  }
}

/** Without a tag Docker would pull every tag of the repository. */
function pullQuery(reference: string): { fromImage: string; tag?: string } {
  const hasVersion = reference.includes("@") || /:[^/]+$/.test(reference);
  return hasVersion ? { fromImage: reference } : { fromImage: reference, tag: "latest" };
}

/** containerd's image store uses a credential only for the host in its address. */
function toAuthConfig({ registry, username, password }: PullCredential) {
  const serveraddress = registry === DOCKER_HUB ? "https://index.docker.io/v1/" : registry;
  return { username, password: password.reveal(), serveraddress };
}

function toIdleError(reference: string, idleTimeoutMs: number): AgentError {
  const message = `image "${reference}" cannot be pulled now: no progress for ${idleTimeoutMs / 1_000} s`;
  return new AgentError("image-unavailable", message, { phase: "image", temporary: true });
}

/** A registry may repeat the password in its message, so neither message nor cause contain it. */
function toPullError(
  { reference, credential }: Pull,
  registryDetail: string,
  registryCause?: unknown,
): AgentError {
  const detail = credential
    ? registryDetail.replaceAll(credential.password.reveal(), "[redacted]")
    : registryDetail;
  const cause = detail === registryDetail ? registryCause : undefined;
  if (unknownImage.test(detail) && !notOfRegistry.test(detail)) {
    const message = `image "${reference}" not found: ${detail}`;
    return new AgentError("image-not-found", message, { phase: "image", temporary: false, cause });
  }
  const remedy = refusedAccess.test(detail) ? `. ${describeRemedy(reference, credential)}` : "";
  const message = `image "${reference}" cannot be pulled now: ${detail}${remedy}`;
  return new AgentError("image-unavailable", message, { phase: "image", temporary: true, cause });
}

function describeRemedy(reference: string, credential: PullCredential | undefined): string {
  const registry = findRegistry(reference);
  const fault = credential
    ? `Registry ${registry} refuses the stored credential`
    : `No credential is stored for registry ${registry}`;
  return `${fault}. Run "berth registry login ${registry} --username NAME --password-stdin" with a valid password or token.`;
}
