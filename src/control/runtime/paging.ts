import { AppError } from "../../contracts/common/app-error.ts";

/** The paging parameters of a list: see pageQuery in contracts. */
export interface PageRequest {
  cursor?: string | undefined;
  limit: number;
}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

/** The id or name after which the page starts. Throws invalid-request for an unknown cursor. */
export function pageStart(page: PageRequest): string | undefined {
  if (page.cursor === undefined) return undefined;
  const key = Buffer.from(page.cursor, "base64url").toString("latin1");
  if (!/^[a-z0-9_-]{1,80}$/.test(key) || toCursor(key) !== page.cursor) throw badCursor("cursor");
  return key;
}

/**
 * The number before which the page starts, for lists with the newest first. Throws invalid-request.
 */
export function pageStartNumber(page: PageRequest): number | undefined {
  const key = pageStart(page);
  if (key === undefined) return undefined;
  if (!/^\d{1,15}$/.test(key)) throw badCursor("cursor");
  return Number(key);
}

/** Builds a page of up to limit + 1 rows. The surplus row only shows that a next page exists. */
export function toPage<T>(rows: readonly T[], limit: number, getKey: (row: T) => string): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  const hasMore = rows.length > limit && last !== undefined;
  return { items, nextCursor: hasMore ? toCursor(getKey(last)) : null };
}

export function badCursor(parameter: string): AppError {
  return new AppError("invalid-request", {
    detail: `The parameter \`${parameter}\` must be the unchanged value of an earlier answer.`,
    errors: [{ pointer: parameter, detail: "expected the unchanged value of an earlier answer" }],
  });
}

function toCursor(key: string): string {
  return Buffer.from(key, "latin1").toString("base64url");
}
