import { z } from "zod";

/** Names of tenants, services, containers, hosts: a DNS label, so that it can stand in a host name or a path unescaped. */
export const nameSchema = z
  .string()
  .max(63)
  .regex(
    /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/,
    "expected lower-case letters, digits and inner hyphens, such as menu-web",
  );

/** Label keys and values: short, printable, no whitespace at the ends. */
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

/** `set_` + 26 characters, and so on. */
export function idSchema<P extends string>(prefix: P) {
  return z
    .string()
    .regex(new RegExp(`^${prefix}_[0-9a-hjkmnp-tv-z]{26}$`), `expected an id like ${prefix}_01…`);
}

export const PAGE_LIMIT_MAX = 500;
/** Query of every list: an opaque cursor from the page before, and how many at most. */
export const pageQuery = z.object({
  cursor: z.string().max(200).optional(),
  limit: z.coerce.number().int().min(1).max(PAGE_LIMIT_MAX).default(100),
});

/** One page: items, and the cursor of the next page when there is one. */
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

/** Why a thing is not where it should be: a stable code, a sentence for people, and numbers where there are any. */
export const reasonSchema = z.strictObject({
  code: z.string().max(64),
  text: z.string().max(2000),
  /** The phase of a set's life that it happened in. */
  phase: z.string().max(32).optional(),
  at: timestamp.optional(),
});
export type Reason = z.infer<typeof reasonSchema>;

/**
 * A named schema or null. Not `.nullable()`: the generator of the API's description lets null pass into the named schema
 * itself, or forgets it, depending on where the name is met first.
 */
export function orNull<T extends z.ZodType>(schema: T) {
  return z.union([schema, z.null()]);
}
