import { PGlite } from "@electric-sql/pglite";
import { drizzle } from "drizzle-orm/pglite";
import type { DbHandle } from "../postgres/open-postgres.ts";

/**
 * Opens Postgres in this process, with one connection and its data in `directory`. It suits one
 * machine and trials. A separate file, so that Workers do not bundle it.
 */
export async function openPglite(directory: string): Promise<DbHandle> {
  const client = await PGlite.create(directory);
  return { db: drizzle(client), connectionsMax: 1, close: () => client.close() };
}
