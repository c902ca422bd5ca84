import { z } from "zod";

/**
 * A list in a report. Invalid items are dropped, so that one of them does not reject the report.
 */
export function lenientArray<S extends z.ZodType>(item: S, itemsMax: number) {
  return z.preprocess(
    (list) => (Array.isArray(list) ? list.filter((one) => item.safeParse(one).success) : list),
    z.array(item).max(itemsMax),
  );
}

/**
 * A complete list in a report. An invalid item is null, so that it neither rejects the report nor
 * counts as absent.
 */
export function lenientList<S extends z.ZodType>(item: S, itemsMax: number) {
  return z.preprocess(
    (list) =>
      Array.isArray(list)
        ? list.map((one: unknown) => (item.safeParse(one).success ? one : null))
        : list,
    z.array(item.nullable()).max(itemsMax),
  );
}

/** Amounts by name in a report, without the invalid entries. */
export function lenientAmounts<S extends z.ZodType<string, string>>(name: S, entriesMax: number) {
  const amount = z.number().int().nonnegative();
  return z.preprocess(
    (amounts) =>
      amounts !== null && typeof amounts === "object" && !Array.isArray(amounts)
        ? Object.fromEntries(
            Object.entries(amounts).filter(
              ([key, value]) => name.safeParse(key).success && amount.safeParse(value).success,
            ),
          )
        : amounts,
    z
      .record(name, amount)
      .refine((taken) => Object.keys(taken).length <= entriesMax, "too many entries"),
  );
}
