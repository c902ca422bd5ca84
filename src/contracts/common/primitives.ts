import { z } from "zod";
import { NAME_LENGTH_MAX, NAME_PATTERN, PAGE_LIMIT_MAX } from "./limits.ts";

export const nameSchema = z
  .string()
  .max(NAME_LENGTH_MAX)
  .regex(NAME_PATTERN, "expected lower-case letters, digits and inner hyphens, such as menu-web");

/** Keys and values of labels are short and printable, without whitespace. */
export const labelKey = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$/, "expected letters, digits, . _ / and -");
export const labelValue = z
  .string()
  .max(63)
  .regex(/^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$/, "expected letters, digits, . _ and -");

export const LABELS_MAX = 64;
export const labelsSchema = z
  .record(labelKey, labelValue)
  .refine(
    (labels) => Object.keys(labels).length <= LABELS_MAX,
    `expected at most ${LABELS_MAX} labels`,
  );

export const taintSchema = z.strictObject({ key: labelKey, value: labelValue.default("") });

export const timestamp = z.iso.datetime();
export const generationSchema = z.number().int().nonnegative();

/** An id: the prefix, an underscore and 26 characters. */
export function idSchema<P extends string>(prefix: P) {
  return z
    .string()
    .regex(new RegExp(`^${prefix}_[0-9a-hjkmnp-tv-z]{26}$`), `expected an id like ${prefix}_01…`);
}

/** The query of every list: the opaque cursor of the previous page, and the page size. */
export const pageQuery = z.object({
  cursor: z.string().max(200).optional(),
  limit: z.coerce.number().int().min(1).max(PAGE_LIMIT_MAX).default(100),
});

/** One page: its items, and the cursor of the next page. Null on the last page. */
export function pageOf<T extends z.ZodType>(item: T) {
  return z.strictObject({ items: z.array(item), nextCursor: z.string().nullable() });
}

export const resourcesSchema = z.strictObject({
  cpuMillis: z.number().int().nonnegative(),
  memoryBytes: z.number().int().nonnegative(),
  volumeBytes: z.number().int().nonnegative(),
  rootfsBytes: z.number().int().nonnegative(),
});
export type ResourceAmounts = z.infer<typeof resourcesSchema>;

/** The longest text of an event or a reason. */
export const TEXT_CHARACTERS_MAX = 2_000;

/** Why an object is not in its desired state: a stable code, and a sentence for users. */
export const reasonSchema = z.strictObject({
  code: z.string().max(64),
  text: z.string().max(TEXT_CHARACTERS_MAX),
  /** The phase of the set's life in which the reason arose. */
  phase: z.string().max(32).optional(),
  at: timestamp.optional(),
});
export type Reason = z.infer<typeof reasonSchema>;

/**
 * A named schema or null. With `.nullable()`, the OpenAPI generator adds null to the named schema
 * or omits it, depending on the place at which it finds the name first.
 */
export function orNull<T extends z.ZodType>(schema: T) {
  return z.union([schema, z.null()]);
}
