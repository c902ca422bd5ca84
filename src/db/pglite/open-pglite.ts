import { PGlite } from "@electric-sql/pglite";
import { drizzle } from "drizzle-orm/pglite";
import type { DbHandle } from "../postgres/open-postgres.ts";

/**
 * Opens Postgres in this process: one connection, with its data in `directory`. For one
 * machine, and for trying Berth out. A file of its own, so that Workers never bundle it.
 */
export async function openPglite(directory: string): Promise<DbHandle> {
  const client = await PGlite.create(directory);
  return { db: drizzle(client), connectionsMax: 1, close: () => client.close() };
}
