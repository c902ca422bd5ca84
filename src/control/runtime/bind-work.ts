import { bindWork as bindDatabase } from "../../db/postgres/open-postgres.ts";
import type { Work } from "../../db/postgres/work.ts";
import type { ControlContext } from "./context.ts";

export type { Work } from "../../db/postgres/work.ts";

/**
 * Binds a context to one piece of work. Its statements wait for database connections within the
 * limits of the work's kind and owner. Cheap enough for each request.
 */
export function bindWork(ctx: ControlContext, work: Work): ControlContext {
  return { ...ctx, db: bindDatabase(ctx.db, work) };
}
