import { AppError } from "../../contracts/common/app-error.ts";

/** What every list takes: see pageQuery in contracts. `| undefined`: parsed queries carry absent members. */
export interface PageRequest {
  cursor?: string | undefined;
  limit: number;
}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

/** The key (an id or a name) after which the page starts. Throws invalid-request for what no page gave out. */
export function pageStart(page: PageRequest): string | undefined {
  if (page.cursor === undefined) return undefined;
  const key = Buffer.from(page.cursor, "base64url").toString("latin1");
  if (!/^[a-z0-9_-]{1,80}$/.test(key) || toCursor(key) !== page.cursor) throw badCursor("cursor");
  return key;
}

/** The same for lists that go by a number, newest first. */
export function pageStartNumber(page: PageRequest): number | undefined {
  const key = pageStart(page);
  if (key === undefined) return undefined;
  if (!/^\d{1,15}$/.test(key)) throw badCursor("cursor");
  return Number(key);
}

/** Makes a page of up to limit + 1 rows: the row too many only says that there is a next page. */
export function toPage<T>(rows: readonly T[], limit: number, keyOf: (row: T) => string): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  const hasMore = rows.length > limit && last !== undefined;
  return { items, nextCursor: hasMore ? toCursor(keyOf(last)) : null };
}

export function badCursor(parameter: string): AppError {
  return new AppError("invalid-request", {
    detail: `The parameter ${parameter} is not one that Berth gave out.`,
    errors: [{ pointer: parameter, detail: "expected a value from an earlier answer, unchanged" }],
  });
}

function toCursor(key: string): string {
  return Buffer.from(key, "latin1").toString("base64url");
}
