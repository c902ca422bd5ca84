import { getTableColumns, is, SQL, sql } from "drizzle-orm";
import type { PgInsertValue, PgTable } from "drizzle-orm/pg-core";

/** The members of `Values` that are not columns of the table. */
type UnknownColumns<Table extends PgTable, Values> = Exclude<
  keyof Values,
  keyof PgInsertValue<Table>
>;

/**
 * The SQL `insert into ... values ...` for one row. It names only the columns of `values`. The
 * builder names all columns of the table, so its inserts fail after a later release drops one.
 */
export function insertInto<Table extends PgTable, Values extends PgInsertValue<Table>>(
  table: Table,
  values: Values & Record<UnknownColumns<Table, Values>, never>,
): SQL {
  const row = Object.entries(getTableColumns(table)).flatMap(([name, column]) => {
    const value: unknown = values[name as keyof typeof values];
    if (value === undefined) return [];
    return [{ column, value: is(value, SQL) ? value : sql.param(value, column) }];
  });
  const columns = row.map(({ column }) => sql.identifier(column.name));
  const rowValues = row.map(({ value }) => value);
  return sql`insert into ${table} (${sql.join(columns, sql`, `)}) values (${sql.join(rowValues, sql`, `)})`;
}
