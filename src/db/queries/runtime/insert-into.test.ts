import { type SQL, sql } from "drizzle-orm";
import { integer, jsonb, PgDialect, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { expect, it } from "vitest";
import { insertInto } from "./insert-into.ts";

const books = pgTable("books", {
  id: text("id").primaryKey(),
  /** Its column has another name. */
  pageCount: integer("pages").notNull(),
  tags: jsonb("tags").$type<string[]>().notNull().default([]),
  soldAt: timestamp("sold_at", { withTimezone: true }),
  shelf: text("shelf"),
});

const render = (query: SQL) => {
  const { sql, params } = new PgDialect().sqlToQuery(query);
  return { sql, params };
};

it("names only the columns of the given values", () => {
  expect(render(insertInto(books, { pageCount: 9, id: "a" }))).toEqual({
    sql: `insert into "books" ("id", "pages") values ($1, $2)`,
    params: ["a", 9],
  });
});

it("skips undefined and inserts null", () => {
  const query = insertInto(books, { id: "a", pageCount: 9, shelf: null, soldAt: undefined });
  expect(render(query)).toEqual({
    sql: `insert into "books" ("id", "pages", "shelf") values ($1, $2, $3)`,
    params: ["a", 9, null],
  });
});

it("encodes values as their columns do, and writes SQL as it is", () => {
  const soldAt = new Date("2026-01-02T03:04:05Z");
  const pageCount = sql`(select ${8}::int + 1)`;
  expect(render(insertInto(books, { id: "a", pageCount, tags: ["x"], soldAt }))).toEqual({
    sql: `insert into "books" ("id", "pages", "tags", "sold_at") values ($1, (select $2::int + 1), $3, $4)`,
    params: ["a", 8, `["x"]`, "2026-01-02T03:04:05.000Z"],
  });
});

it("is a part of a longer statement", () => {
  const query = sql`${insertInto(books, { id: "a", pageCount: 9 })} on conflict (id) do nothing`;
  expect(render(query).sql).toBe(
    `insert into "books" ("id", "pages") values ($1, $2) on conflict (id) do nothing`,
  );
});

it("accepts only values that the table accepts", () => {
  const spread = { rack: "r" };
  // @ts-expect-error: the table has no column of this name, which a spread would hide
  insertInto(books, { id: "a", pageCount: 9, ...spread });
  // @ts-expect-error: a column without a default needs a value
  insertInto(books, { id: "a" });
  // @ts-expect-error: the type of the column is another one
  insertInto(books, { id: "a", pageCount: "9" });
  // At runtime, members that are not columns have no effect.
  const wide: { id: string; pageCount: number } = { id: "a", pageCount: 9, ...spread };
  expect(render(insertInto(books, wide)).params).toEqual(["a", 9]);
});
