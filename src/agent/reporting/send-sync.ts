import { hostUsageSchema } from "../../contracts/agent-protocol/host-usage.ts";
import {
  type ObservedSet,
  observedSetSchema,
} from "../../contracts/agent-protocol/observed-set.ts";
import { AGENT_PROTOCOL_VERSION } from "../../contracts/agent-protocol/protocol.ts";
import { refusalStatuses } from "../../contracts/agent-protocol/refusal-proof.ts";
import { type Sync, syncBody } from "../../contracts/agent-protocol/sync.ts";
import type { Log } from "../../lib/log.ts";
import type { AddressReports } from "./address-reports.ts";
import type { Prefetches } from "../housekeeping/prefetches.ts";
import type { CapabilityReports } from "./capability-reports.ts";
import { type ControlPlane, ControlPlaneError, type SyncAnswer } from "../ports/control-plane.ts";

const AGENT_VERSION_CHARACTERS_MAX = 64;
/** The API or a proxy is busy: the body is not the cause. */
const busyStatuses: ReadonlySet<number> = new Set([408, 425, 429]);

export interface SendSyncOptions {
  api: Pick<ControlPlane, "sync">;
  log: Log;
  counts: { omittedParts: number };
  capabilities: Pick<CapabilityReports, "take" | "noteAnswer">;
  addresses: Pick<AddressReports, "take" | "noteAnswer">;
  prefetches: Pick<Prefetches, "take" | "noteLost">;
  /** Called with the answer to a bare sync, which confirms no report. */
  onBareAnswer: (answer: SyncAnswer) => Promise<unknown>;
}

/**
 * Sends a sync without its invalid parts, so that no measurement costs the lease or delays orders.
 * If the API or a proxy refuses the body all the same, a bare sync follows. It has the generation
 * only, so it renews the lease and receives orders. Then the call rejects with the first error.
 */
export async function sendSync(
  { api, log, counts, capabilities, addresses, prefetches, onBareAnswer }: SendSyncOptions,
  body: Sync,
  signal: AbortSignal,
): Promise<SyncAnswer> {
  const own = capabilities.take();
  const options = { capabilitiesVersion: own.version };
  const { valid, omitted } = omitInvalidParts(body);
  if (own.capabilities) valid.capabilities = own.capabilities;
  const ownAddresses = addresses.take();
  if (ownAddresses) valid.addresses = ownAddresses;
  const prefetched = prefetches.take();
  if (prefetched) valid.prefetched = prefetched;
  if (omitted.length > 0) {
    log.error({ omitted }, "a report omits parts that violate the protocol");
    counts.omittedParts += omitted.length;
  }
  try {
    const answer = await api.sync(valid, signal, options);
    capabilities.noteAnswer(answer);
    addresses.noteAnswer(answer);
    return answer;
  } catch (error) {
    if (!isRefusedBody(error)) {
      if (prefetched) prefetches.noteLost();
      throw error;
    }
    // A part that an older API does not know is sent again only after an answer that requests it.
    log.error({ err: error }, "the control plane refuses a report");
    try {
      await onBareAnswer(await api.sync(toBare(valid), signal, options));
    } catch (bareError) {
      log.warn({ err: bareError }, "bare sync failed");
    }
    throw error;
  }
}

function isRefusedBody(error: unknown): boolean {
  if (!(error instanceof ControlPlaneError) || error.status === undefined) return false;
  const { status } = error;
  return status >= 400 && status < 500 && !refusalStatuses.has(status) && !busyStatuses.has(status);
}

/** The answer comes immediately. */
function toBare({ agentVersion, acceptedGeneration, full }: Sync): Sync {
  return { ...createEmptySync(agentVersion, acceptedGeneration), full };
}

/** A sync that reports nothing, and requests nothing. It has the fields that each release reads. */
export function createEmptySync(agentVersion: string, acceptedGeneration: number): Sync {
  return {
    protocol: AGENT_PROTOCOL_VERSION,
    agentVersion,
    acceptedGeneration,
    full: false,
    waitMs: 0,
    observed: [],
    docker: null,
    usage: null,
    images: null,
    volumes: null,
  };
}

/** Omits each part that the API would refuse. Images and volumes are filtered in reportable.ts. */
function omitInvalidParts(body: Sync): { valid: Sync; omitted: string[] } {
  const omitted: string[] = [];
  const valid = { ...body, agentVersion: body.agentVersion.slice(0, AGENT_VERSION_CHARACTERS_MAX) };
  if (!syncBody.shape.docker.safeParse(body.docker).success && body.docker) {
    valid.docker = { state: body.docker.state, detail: "" };
    omitted.push("docker.detail");
  }
  valid.usage = omitInvalidUsage(body.usage, omitted);
  valid.observed = body.observed.flatMap((report) => omitInvalidReport(report, omitted));
  return { valid, omitted };
}

function omitInvalidUsage(usage: Sync["usage"], omitted: string[]): Sync["usage"] {
  if (usage === null || hostUsageSchema.safeParse(usage).success) return usage;
  const withoutDisk = { ...usage, disk: null };
  if (hostUsageSchema.safeParse(withoutDisk).success) {
    omitted.push("usage.disk");
    return withoutDisk;
  }
  const necessary = { ...withoutDisk, setMemoryBytes: {}, volumeReason: null };
  if (hostUsageSchema.safeParse(necessary).success) {
    omitted.push("usage.details");
    return necessary;
  }
  omitted.push("usage");
  return null;
}

/** A report without its containers or its reason still has the state of the set. */
function omitInvalidReport(report: ObservedSet, omitted: string[]): ObservedSet[] {
  if (observedSetSchema.safeParse(report).success) return [report];
  omitted.push(`observed.${report.setId}`);
  const candidates = [
    { ...report, containers: [] },
    { ...report, reason: null },
    { ...report, containers: [], reason: null, address: null },
  ];
  return candidates
    .filter((candidate) => observedSetSchema.safeParse(candidate).success)
    .slice(0, 1);
}
