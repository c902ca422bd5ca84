import { PAGE_LIMIT_MAX } from "../../contracts/common/limits.ts";
import type { ApiClient, RequestOptions } from "./api-client.ts";

interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

export interface Listing<T> {
  items: T[];
  /** True when the list has more than `limit` items. */
  isCut: boolean;
}

/** Reads the first `limit` items of a list, page by page. */
export async function listPages<T>(
  api: ApiClient,
  path: string,
  limit: number,
  query: RequestOptions["query"] = {},
): Promise<Listing<T>> {
  const items: T[] = [];
  let cursor: string | undefined;
  while (items.length < limit) {
    const page: Page<T> = await api.request<Page<T>>("GET", path, {
      query: { ...query, cursor, limit: Math.min(PAGE_LIMIT_MAX, limit - items.length) },
    });
    items.push(...page.items);
    if (page.nextCursor === null) return { items, isCut: false };
    cursor = page.nextCursor;
  }
  return { items, isCut: true };
}
