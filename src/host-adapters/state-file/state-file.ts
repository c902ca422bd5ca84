import { readFile } from "node:fs/promises";
import { z } from "zod";
import { lenientArray } from "../../contracts/agent-protocol/lenient-array.ts";
import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import {
  readDesiredSets,
  unsupportedSetSchema,
} from "../../contracts/agent-protocol/read-desired-sets.ts";
import { generationSchema, idSchema, reasonSchema } from "../../contracts/common/primitives.ts";
import { coalesce } from "../../lib/async/coalesce.ts";
import { newSecret } from "../../lib/token-hash.ts";
import { removeTemporaries, writeDurably } from "./write-durably.ts";
import type { PersistedCounts } from "../../agent/ports/state-store.ts";
import type { AgentState, StateStore } from "../../agent/ports/state-store.ts";
import type { HostCredentialState } from "../../agent/ports/host-credential-store.ts";

/** The identity of this host for the control plane. */
export interface HostIdentity {
  hostId: string;
  credential: string;
  /** The hash of the id of the machine that wrote the state. Undefined if it is not known. */
  machineId?: string | undefined;
}

export interface StateFile extends StateStore {
  /** Loads the identity; undefined until this host is enrolled. */
  loadIdentity(): Promise<HostIdentity | undefined>;
  /**
   * Returns the credential for the enrollment. It is on disk before the agent sends it, so an agent
   * that is killed before the answer repeats the same request.
   */
  beginEnrollment(): Promise<string>;
  /** Loads the credentials of an enrolled host. */
  loadCredentials(): Promise<HostCredentialState>;
  /** Saves credentials durably. If it rejects, the previous ones stay. */
  saveCredentials(credentials: HostCredentialState): Promise<void>;
  /** Stores the machine to which the identity belongs. */
  bindMachine(machineId: string): Promise<void>;
  /** Stores the identity and starts a new state without accepted sets. */
  saveIdentity(identity: HostIdentity): Promise<void>;
}

const identitySchema = z.object({
  version: z.literal(1),
  /** Missing during the enrollment. */
  hostId: idSchema("host").optional(),
  credential: z.string().min(1),
  /** Older agents neither read nor write these two. */
  nextCredential: z.string().min(1).optional(),
  previousCredentials: z.array(z.string().min(1)).optional(),
  machineId: z.string().max(64).optional(),
  acceptedGeneration: generationSchema,
  /** Older agents neither read nor write it. */
  isHostDeleted: z.boolean().optional(),
});
/**
 * The file's names of fields that have other names in `AgentState`. Other releases of the agent
 * read and write them, so they must not change.
 */
const historiesField = "kept";
const count = z.number().int().nonnegative();
const countsSchema = z.object({
  restarts: count,
  oomKills: count,
  oomKillsOfLife: count,
  countedLife: z.string().optional(),
});
const lastRunSchema = z.object({
  run: z.string(),
  infraRun: z.string().optional(),
  specHash: z.string(),
  exit: z.object({ code: z.number().int().optional(), finishedAt: z.string() }).optional(),
});
const historySchema = z.object({
  stopped: z.object({ specKey: z.string(), usedBytes: count, reason: reasonSchema }).optional(),
  counts: z.record(z.string(), countsSchema.transform(readCounts)).optional(),
  runs: z
    .object({ infraRun: z.string(), containers: z.record(z.string(), lastRunSchema) })
    .optional(),
});
const specKeySchema = z.string();
/**
 * Hints, whose entries are read one by one. If another release of the agent wrote an entry in
 * another form, this agent ignores the entry and retains the others.
 */
const hintsSchema = z.object({
  desired: z.array(z.unknown()).catch([]),
  unsupported: lenientArray(unsupportedSetSchema, SETS_PER_HOST_MAX).catch([]),
  hasRun: z.record(z.string(), z.unknown()).catch({}),
  [historiesField]: z.record(z.string(), z.unknown()).catch({}),
});

interface Content extends AgentState, HostCredentialState {
  hostId: string | undefined;
  machineId?: string | undefined;
}

const nothingAccepted: AgentState = {
  acceptedGeneration: 0,
  desired: [],
  hasRun: {},
  histories: {},
};

/**
 * Opens the agent's state: one JSON file that only its owner can read. A save writes a temporary
 * file, syncs it, renames it and syncs the folder. So a power failure leaves the old or the new
 * state. Saves during a write share the next write.
 *
 * An unreadable file is an error and never a new start, because it has the host's only credential.
 * An operator decides about it.
 */
export function openStateFile(file: string): StateFile {
  let content: Content | undefined;
  let isLoaded = false;
  const write = coalesce(() => writeDurably(file, JSON.stringify(content && toFile(content))));
  const load = async () => {
    if (!isLoaded) {
      await removeTemporaries(file);
      content = await readContent(file);
    }
    isLoaded = true;
    return content;
  };
  return {
    async loadIdentity() {
      const { hostId, credential, machineId } = (await load()) ?? {};
      if (hostId === undefined || credential === undefined) return undefined;
      return { hostId, credential, ...(machineId === undefined ? {} : { machineId }) };
    },
    async beginEnrollment() {
      content = (await load()) ?? {
        ...nothingAccepted,
        hostId: undefined,
        credential: newSecret(),
      };
      await write();
      return content.credential;
    },
    async loadCredentials() {
      const identity = await load();
      if (!identity) throw new Error(`${file}: the host has no credential`);
      return pickCredentials(identity);
    },
    async saveCredentials(credentials) {
      await load();
      const identity = content;
      if (!identity) throw new Error(`${file}: cannot save credentials without an identity`);
      const before = pickCredentials(identity);
      content = { ...identity, ...pickCredentials(credentials) };
      try {
        await write();
      } catch (error) {
        content = { ...content, ...before };
        throw error;
      }
    },
    async bindMachine(machineId) {
      await load();
      const identity = content;
      if (!identity) throw new Error(`${file}: cannot bind a machine without an identity`);
      content = { ...identity, machineId };
      await write();
    },
    async saveIdentity(identity) {
      content = { ...nothingAccepted, ...identity };
      isLoaded = true;
      await write();
    },
    load,
    async save(state) {
      await load();
      const identity = content; // a concurrent call may have changed it since
      if (identity?.hostId === undefined)
        throw new Error(`${file}: cannot save a state without an identity`);
      const { hostId, machineId } = identity;
      const { acceptedGeneration, desired, hasRun, histories, isHostDeleted } = state;
      const accepted = { acceptedGeneration, desired, hasRun, histories };
      content = { hostId, ...pickCredentials(identity), machineId, ...accepted };
      // Older agents neither read nor write these.
      if (isHostDeleted) content.isHostDeleted = true;
      if (state.unsupported?.length) content.unsupported = state.unsupported;
      await write();
    },
  };
}

function pickCredentials(state: HostCredentialState): HostCredentialState {
  const { credential, nextCredential, previousCredentials } = state;
  return { credential, nextCredential, previousCredentials };
}

async function readContent(file: string): Promise<Content | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const value: unknown = JSON.parse(text);
    const { version: _version, ...identity } = identitySchema.parse(value);
    const hints = hintsSchema.parse(value);
    const { sets: desired, unsupported } = readDesiredSets(hints.desired);
    return {
      ...identity,
      hostId: identity.hostId,
      desired,
      unsupported: [...unsupported, ...hints.unsupported],
      hasRun: readEntries(specKeySchema, hints.hasRun),
      histories: readEntries(historySchema, hints[historiesField]),
    };
  } catch (error) {
    const advice = "Move the file to another place to enroll this host again.";
    throw new Error(`${file} is not the state of a host agent. ${advice}`, { cause: error });
  }
}

/** The entries that have the form of this release. */
function readEntries<S extends z.ZodType>(
  schema: S,
  entries: Record<string, unknown>,
): Record<string, z.output<S>> {
  const read: Record<string, z.output<S>> = {};
  for (const [key, entry] of Object.entries(entries)) {
    const { success, data } = schema.safeParse(entry);
    if (success) read[key] = data;
  }
  return read;
}

function readCounts({
  oomKillsOfLife,
  countedLife,
  ...counts
}: z.output<typeof countsSchema>): PersistedCounts {
  return { ...counts, oomKillsInRun: oomKillsOfLife, lastCountedRun: countedLife };
}

function toFile({ histories, ...content }: Content): unknown {
  const written = Object.entries(histories).map(([setId, { counts, ...history }]) => [
    setId,
    { ...history, counts: counts && toFileCounts(counts) },
  ]);
  return { version: 1, ...content, [historiesField]: Object.fromEntries(written) };
}

function toFileCounts(countsByName: Record<string, PersistedCounts>): unknown {
  return Object.fromEntries(
    Object.entries(countsByName).map(([name, { oomKillsInRun, lastCountedRun, ...counts }]) => [
      name,
      { ...counts, oomKillsOfLife: oomKillsInRun, countedLife: lastCountedRun },
    ]),
  );
}
