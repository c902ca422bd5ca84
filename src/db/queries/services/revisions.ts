import { sql } from "drizzle-orm";
import type { SetTemplate } from "../../../contracts/api/set-template.ts";
import { assert } from "../../../lib/assert.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { revisions } from "../../schema/services.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { queryRows } from "../runtime/query.ts";

/**
 * True for a revision `o` of the service `s` that no set has or will have. The current and the
 * target revision are in use.
 */
export const unusedRevisionSql = sql`o.number not in (s.revision, coalesce(s.target_revision, s.revision))
  and not exists (select 1 from sets x left join operations p on p.set_id = x.id
    where x.service_id = o.service_id and x.deleted_at is null
      and o.number in (x.revision, coalesce(p.to_revision, x.revision)))`;

/**
 * Inserts the next revision of a service, whose row the caller has locked. Returns its number.
 * Numbers grow, even after a target revision was abandoned.
 */
export async function insertRevision(
  q: Queryable,
  serviceId: string,
  template: SetTemplate,
): Promise<number> {
  const number = sql`(select max(number) + 1 from revisions where service_id = ${serviceId})`;
  const [row] = await queryRows<{ number: number }>(
    q,
    sql`${insertInto(revisions, { serviceId, number, template })} returning number`,
  );
  assert(row, "an insert of one row gives a row");
  return row.number;
}

/**
 * Deletes at most `limit` unused revisions of a locked service, up to the number `numberMax`.
 * Returns their number.
 */
export async function deleteUnusedRevisions(
  q: Queryable,
  serviceId: string,
  { numberMax, limit }: { numberMax: number; limit: number },
): Promise<number> {
  const rows = await queryRows<{ number: number }>(
    q,
    sql`delete from revisions where service_id = ${serviceId} and number in (
          select o.number from revisions o join services s on s.id = o.service_id
          where o.service_id = ${serviceId} and o.number <= ${numberMax} and ${unusedRevisionSql}
          order by o.number limit ${limit})
        returning number`,
  );
  return rows.length;
}
