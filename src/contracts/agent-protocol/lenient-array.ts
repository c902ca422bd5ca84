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

/** A list of which the first valid items are read, so that a longer one is not rejected. */
export function lenientStart<S extends z.ZodType>(item: S, itemsMax: number) {
  return z.preprocess(
    (list) =>
      Array.isArray(list)
        ? list.filter((one) => item.safeParse(one).success).slice(0, itemsMax)
        : list,
    z.array(item).max(itemsMax),
  );
}

/**
 * A complete list in a report. An invalid item is null, so that it neither rejects the report nor
 * counts as absent. It parses each item once: a host reports up to 10,000 volumes.
 */
export function lenientList<S extends z.ZodType>(item: S, itemsMax: number) {
  const clearInvalidItems = z.check<(z.output<S> | null)[]>(({ value, issues }) => {
    const faults = issues.splice(0);
    for (const fault of faults) {
      const [index] = fault.path ?? [];
      if (typeof index === "number") value[index] = null;
      else issues.push(fault);
    }
  });
  // Without this condition, the check would not run after an invalid item.
  clearInvalidItems._zod.def.when = () => true;
  return z.array(item.nullable()).max(itemsMax).check(clearInvalidItems);
}

/** A part of a report that is null if it is absent or invalid, so that it rejects no report. */
export function nullIfInvalid<S extends z.ZodType>(part: S) {
  return z.preprocess((value) => (part.safeParse(value).success ? value : null), part.nullable());
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
