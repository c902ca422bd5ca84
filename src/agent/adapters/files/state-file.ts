import { mkdir, open, readFile, rename } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { desiredSetSchema } from "../../../contracts/agent-protocol/protocol.ts";
import { generationSchema, idSchema, reasonSchema } from "../../../contracts/common/primitives.ts";
import { coalesce } from "../../../lib/async/coalesce.ts";
import { newSecret } from "../../../lib/token-hash.ts";
import type { AgentState, StateStore } from "../../ports/state-store.ts";

/** Who this host is for the control plane. */
export interface HostIdentity {
  hostId: string;
  credential: string;
}

export interface StateFile extends StateStore {
  /** Undefined when this host was not enrolled yet. */
  loadIdentity(): Promise<HostIdentity | undefined>;
  /**
   * The credential to enrol this host with. It is made, and on the disk, before anybody else knows it: an agent that is killed before it has
   * the answer asks for the same again.
   */
  beginEnrolment(): Promise<string>;
  /** Begins a new state with nothing accepted. */
  saveIdentity(identity: HostIdentity): Promise<void>;
}

const identitySchema = z.object({
  version: z.literal(1),
  /** Not there while it is being enrolled. */
  hostId: idSchema("host").optional(),
  credential: z.string().min(1),
  acceptedGeneration: generationSchema,
});
const count = z.number().int().nonnegative();
const keptSetSchema = z.object({
  stopped: z.object({ specKey: z.string(), usedBytes: count, reason: reasonSchema }).optional(),
  counts: z
    .record(
      z.string(),
      z.object({
        restarts: count,
        oomKills: count,
        oomKillsOfLife: count,
        countedLife: z.string().optional(),
      }),
    )
    .optional(),
});
/** Hints: a newer or older agent may have written them otherwise, and then does without. */
const hintsSchema = z.object({
  desired: z.array(desiredSetSchema),
  hasRun: z.record(z.string(), z.string()),
  kept: z.record(z.string(), keptSetSchema).default({}),
});

interface Content extends AgentState {
  hostId: string | undefined;
  credential: string;
}

const nothingAccepted: AgentState = { acceptedGeneration: 0, desired: [], hasRun: {}, kept: {} };

/**
 * What an agent keeps, as one JSON file that only its owner reads. It is written to a temporary file, synced, renamed, and
 * the folder synced: after a power cut it is the old state or the new one. Saves that come while one is written share
 * the next write. A file that cannot be read as a state is an error and never a new beginning: it holds the host's
 * only credential, so it is for a person to decide.
 */
export function openStateFile(file: string): StateFile {
  let content: Content | undefined;
  let isLoaded = false;
  const write = coalesce(() => writeDurably(file, JSON.stringify({ version: 1, ...content })));
  const load = async () => {
    if (!isLoaded) content = await readContent(file);
    isLoaded = true;
    return content;
  };
  return {
    async loadIdentity() {
      const { hostId, credential } = (await load()) ?? {};
      if (hostId === undefined || credential === undefined) return undefined;
      return { hostId, credential };
    },
    async beginEnrolment() {
      content = (await load()) ?? {
        ...nothingAccepted,
        hostId: undefined,
        credential: newSecret(),
      };
      await write();
      return content.credential;
    },
    async saveIdentity(identity) {
      content = { ...nothingAccepted, ...identity };
      isLoaded = true;
      await write();
    },
    load,
    async save(state) {
      const identity = await load();
      if (identity?.hostId === undefined)
        throw new Error(`${file}: a state without an identity is not saved`);
      const { acceptedGeneration, desired, hasRun, kept } = state;
      content = {
        hostId: identity.hostId,
        credential: identity.credential,
        acceptedGeneration,
        desired,
        hasRun,
        kept,
      };
      await write();
    },
  };
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
    const hints = hintsSchema.safeParse(value);
    return {
      ...identity,
      hostId: identity.hostId,
      ...(hints.data ?? { desired: [], hasRun: {}, kept: {} }),
    };
  } catch (error) {
    const advice = "move it away to enrol this host anew";
    throw new Error(`${file} is not a state of a host agent; ${advice}`, { cause: error });
  }
}

async function writeDurably(file: string, text: string): Promise<void> {
  const folder = path.dirname(file);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = `${file}.new`;
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.chmod(0o600); // one left over by a crash may be anybody's
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
  const folderHandle = await open(folder, "r");
  try {
    await folderHandle.sync();
  } finally {
    await folderHandle.close();
  }
}
