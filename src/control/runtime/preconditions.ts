import { AppError } from "../../contracts/common/app-error.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";

/** Throws generation-mismatch if the caller has read a different generation. If
 * `generation` is undefined, every generation matches. */
export function assertGeneration(
  resource: { generation: number },
  generation: number | undefined,
  noun = "service",
): void {
  if (generation === undefined || generation === resource.generation) return;
  throw new AppError("generation-mismatch", {
    detail: `The ${noun} has generation ${resource.generation}, and the request names ${generation}. Read the ${noun} again and repeat the change.`,
  });
}

export function assertNotDeleting(service: ServiceRow): void {
  if (!service.deleting) return;
  throw new AppError("state-conflict", { detail: "The service is being deleted." });
}
