import { z } from "zod";
import { desiredSetStates } from "../api/sets.ts";
import { generationSchema, idSchema } from "../common/primitives.ts";
import { type DesiredSet, desiredSetSchema } from "./desired-set.ts";

const DETAIL_CHARACTERS_MAX = 300;

/** No release changes this part of a desired set, so every agent can stop and delete the set. */
const orderSchema = z.object({
  setId: idSchema("set"),
  generation: generationSchema,
  desired: z.enum(desiredSetStates),
  restoreVolumeId: z.string().nullable().optional(),
});

/** A set that this agent cannot run, because its description has a field of a newer release. */
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
 */
export function readDesiredSets(list: readonly unknown[]): ReadDesiredSets {
  const read: ReadDesiredSets = { sets: [], unsupported: [], unreadable: 0 };
  for (const entry of list) {
    const set = desiredSetSchema.safeParse(entry);
    if (set.success) {
      read.sets.push(set.data);
      continue;
    }
    const order = orderSchema.safeParse(entry);
    if (!order.success) read.unreadable++;
    else read.unsupported.push({ ...order.data, detail: describe(set.error) });
  }
  return read;
}

function describe({ issues }: z.ZodError): string {
  const [first] = issues;
  if (!first) return "unknown fault";
  const where = first.path.length === 0 ? "" : `${first.path.join(".")}: `;
  return `${where}${first.message}`.slice(0, DETAIL_CHARACTERS_MAX);
}
