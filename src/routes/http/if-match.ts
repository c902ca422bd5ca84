import { z } from "@hono/zod-openapi";
import { AppError } from "../../contracts/common/app-error.ts";

/** `"7"`, `7` or `W/"7"`: an ETag that Berth gave out, as clients send it back. */
const generationTag = /^(?:W\/)?"?(\d{1,15})"?$/;

export const ifMatchHeader = z
  .string()
  .max(64)
  .optional()
  .describe("The ETag (generation) that the change is made for.");

/** Headers of changes that may, but need not, be bound to a generation. */
export const ifMatchHeaders = z.object({ "if-match": ifMatchHeader });

/** The ETag of a thing: its generation. */
export function etagOf(thing: { generation: number }): string {
  return `"${thing.generation}"`;
}

/** The generation that a change is made for; undefined: none was named. Throws invalid-request. */
export function generationOf(ifMatch: string | undefined): number | undefined {
  if (ifMatch === undefined || ifMatch === "*") return undefined;
  const digits = generationTag.exec(ifMatch)?.[1];
  if (digits === undefined) {
    const detail = 'expected one ETag that Berth gave out, such as "7"';
    throw new AppError("invalid-request", {
      detail: `If-Match: ${detail}.`,
      errors: [{ pointer: "if-match", detail }],
    });
  }
  return Number(digits);
}

/** The same where it must be named. Throws generation-required. */
export function requiredGenerationOf(ifMatch: string | undefined): number {
  const generation = generationOf(ifMatch);
  if (generation === undefined) {
    throw new AppError("generation-required", {
      detail: "Read the service first, and send its ETag back as If-Match.",
    });
  }
  return generation;
}
