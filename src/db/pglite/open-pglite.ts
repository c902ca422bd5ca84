import { PGlite } from "@electric-sql/pglite";
import { drizzle } from "drizzle-orm/pglite";
import type { DbHandle } from "../postgres/open-postgres.ts";

/**
 * Postgres in this process, for one machine and for trying Berth out: one connection, data in `directory`.
 * Kept out of client.ts so that Workers never bundle it.
 */
export async function openPglite(directory: string): Promise<DbHandle> {
  const client = await PGlite.create(directory);
  return { db: drizzle(client), connectionsMax: 1, close: () => client.close() };
}
