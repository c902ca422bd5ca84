import { z } from "zod";

/** Binary and decimal size suffixes, as in Kubernetes quantities. */
const unitBytes: Record<string, number> = {
  "": 1,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
};

/** The largest amount that Berth accepts. Sums over a fleet stay below 2^53. */
export const BYTES_MAX = 2 ** 45;
export const CPU_MILLIS_MAX = 1_024_000;

/** The bytes of "512Mi", "1.5Gi" or a plain number. Undefined: not a size, or out of range. */
export function parseBytes(text: string | number): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,6})?)(Ki|Mi|Gi|Ti|k|M|G|T)?$/.exec(String(text));
  if (!match) return undefined;
  const bytes = Math.round(Number(match[1]) * (unitBytes[match[2] ?? ""] ?? 1));
  return bytes <= BYTES_MAX ? bytes : undefined;
}

/** A size in a request: "512Mi", "8Gi" or bytes. The parsed value is in bytes. */
export const sizeInput = z
  .union([z.string().max(32), z.number().int().nonnegative()])
  .transform((value, context) => {
    const bytes = parseBytes(value);
    if (bytes === undefined) {
      context.addIssue({
        code: "custom",
        message: `expected a size of at most ${BYTES_MAX} bytes, such as "512Mi", "8Gi" or plain bytes`,
      });
      return z.NEVER;
    }
    return bytes;
  });

/** CPU cores in a request, such as 4 or 0.5. The parsed value is in millicores. */
export const coresInput = z
  .number()
  .min(0.01, "expected at least 0.01 cores")
  .max(CPU_MILLIS_MAX / 1000)
  .transform((cores) => Math.round(cores * 1000));
