import { z } from "zod";
import { desiredSetStates } from "../api/sets.ts";
import { generationSchema, idSchema } from "../common/primitives.ts";
import { ATTACHMENTS_FEATURE, usesOnlyDefaultNetwork, ownFeatures } from "./agent-features.ts";
import { type DesiredSet, desiredSetSchema } from "./desired-set.ts";

const DETAIL_CHARACTERS_MAX = 300;

/** No release changes this part of a desired set, so every agent can stop and delete the set. */
const orderSchema = z.object({
  setId: idSchema("set"),
  generation: generationSchema,
  desired: z.enum(desiredSetStates),
  restoreVolumeId: z.string().nullable().optional(),
});

/** A set that this agent cannot run: its description needs what only a newer release has. */
export const unsupportedSetSchema = orderSchema.extend({ detail: z.string() });
export type UnsupportedSet = z.infer<typeof unsupportedSetSchema>;

export interface ReadDesiredSets {
  sets: DesiredSet[];
  unsupported: UnsupportedSet[];
  /** Entries without a valid id, generation or order. */
  unreadable: number;
}

/**
 * Reads desired sets one by one. A set that needs an unknown feature must not start without it, but
 * it must not prevent the orders for the other sets either.
 *
 * The sets may come from the state file that a newer agent wrote before a rollback.
 *
 * @param features those of the agent
 */
export function readDesiredSets(
  list: readonly unknown[],
  features: readonly string[] = ownFeatures,
): ReadDesiredSets {
  const read: ReadDesiredSets = { sets: [], unsupported: [], unreadable: 0 };
  for (const entry of list) {
    const set = desiredSetSchema.safeParse(entry);
    if (set.success && canConnect(set.data, features)) {
      read.sets.push(set.data);
      continue;
    }
    const order = orderSchema.safeParse(entry);
    const detail = set.success ? "it does not connect sets to networks" : describe(set.error);
    if (!order.success) read.unreadable++;
    else read.unsupported.push({ ...order.data, detail });
  }
  return read;
}

/** Whether an agent with these features can give the set its interfaces. */
function canConnect({ attachments, template }: DesiredSet, features: readonly string[]): boolean {
  if (features.includes(ATTACHMENTS_FEATURE)) return true;
  return attachments === undefined && usesOnlyDefaultNetwork(template.networks);
}

function describe({ issues }: z.ZodError): string {
  const [first] = issues;
  if (!first) return "unknown fault";
  const where = first.path.length === 0 ? "" : `${first.path.join(".")}: `;
  return `${where}${first.message}`.slice(0, DETAIL_CHARACTERS_MAX);
}
