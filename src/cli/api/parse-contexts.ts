import { z } from "zod";
import { usageError } from "../cli-error.ts";
import { parseJson } from "./parse-json.ts";

const contextsFileSchema = z.strictObject({
  current: z.string().optional(),
  contexts: z.record(
    z.string(),
    z.strictObject({
      apiUrl: z.url({ protocol: /^https?$/ }),
      token: z.string().min(1).optional(),
      tokenFile: z.string().min(1).optional(),
      tenant: z.string().optional(),
    }),
  ),
});

/** The contexts in `text`. Throws a usage error that names `file` and each invalid member. */
export function parseContexts(text: string, file: string): z.infer<typeof contextsFileSchema> {
  const parsed = contextsFileSchema.safeParse(parseJson(text, file));
  if (!parsed.success)
    throw usageError(`${file} is invalid:`, ...z.prettifyError(parsed.error).split("\n"));
  return parsed.data;
}
