import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { PGlite } from "@electric-sql/pglite";
import { drizzle } from "drizzle-orm/pglite";
import type { DbHandle } from "../postgres/open-postgres.ts";

/**
 * Opens Postgres in this process, with one connection and its data in `directory`. It suits one
 * machine and trials. A separate file, so that Workers do not bundle it.
 */
export async function openPglite(directory: string): Promise<DbHandle> {
  const client = await PGlite.create(directory);
  collectGarbage();
  return { db: drizzle(client), connectionsMax: 1, close: () => client.close() };
}

/**
 * The creation of a database leaves 350 MB of unused memory. V8 counts it as a few small objects,
 * and does not collect it soon. Each program that the host agent starts from this process copies
 * its page tables. That takes 20 ms with this memory and 10 ms without, and nothing else runs
 * meanwhile.
 */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
}
