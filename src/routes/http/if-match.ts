import { z } from "@hono/zod-openapi";
import { AppError } from "../../contracts/common/app-error.ts";

/** The forms in which clients return an ETag of Berth: `"7"`, `7` or `W/"7"`. */
const generationTag = /^(?:W\/)?"?(\d{1,15})"?$/;

export const ifMatchHeader = z
  .string()
  .max(64)
  .optional()
  .describe("The ETag (generation) that the caller has read. An older one fails with 412.");

/** Headers of changes with an optional precondition. */
export const ifMatchHeaders = z.object({ "if-match": ifMatchHeader });

/** Converts the generation of a resource to its ETag. */
export function toEtag(resource: { generation: number }): string {
  return `"${resource.generation}"`;
}

/**
 * Reads the generation in If-Match. Returns undefined without the header, which matches every
 * generation. Throws invalid-request.
 */
export function parseIfMatch(ifMatch: string | undefined): number | undefined {
  if (ifMatch === undefined || ifMatch === "*") return undefined;
  const digits = generationTag.exec(ifMatch)?.[1];
  if (digits === undefined) {
    const detail = 'expected one ETag of Berth, such as "7"';
    throw new AppError("invalid-request", {
      detail: `If-Match: ${detail}.`,
      errors: [{ pointer: "if-match", detail }],
    });
  }
  return Number(digits);
}

/** Reads the generation in a required If-Match. Throws generation-required, invalid-request. */
export function parseRequiredIfMatch(ifMatch: string | undefined): number {
  const generation = parseIfMatch(ifMatch);
  if (generation === undefined) {
    throw new AppError("generation-required", {
      detail: "Read the service first, and send its ETag as If-Match.",
    });
  }
  return generation;
}
