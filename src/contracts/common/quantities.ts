import { z } from "zod";
import { BYTES_MAX, parseBytes } from "./parse-bytes.ts";

export const CPU_MILLIS_MAX = 1_024_000;

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
