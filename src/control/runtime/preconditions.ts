import { AppError } from "../../contracts/common/app-error.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";

/** Throws generation-mismatch when the caller has read an older (or a later) generation; undefined: does not care. */
export function assertGeneration(
  thing: { generation: number },
  generation: number | undefined,
  what = "service",
): void {
  if (generation === undefined || generation === thing.generation) return;
  throw new AppError("generation-mismatch", {
    detail: `The ${what} is at generation ${thing.generation}, the request was made for ${generation}. Read it again and repeat the change.`,
  });
}

export function assertNotDeleting(service: ServiceRow): void {
  if (!service.deleting) return;
  throw new AppError("state-conflict", { detail: "The service is being deleted." });
}
