import type { Volume } from "../../contracts/api/volumes.ts";
import { AppError } from "../../contracts/common/app-error.ts";

/** Rejects a change of a volume with state-conflict. */
export function volumeConflict(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}

/** Says why a volume can be neither purged nor restored. */
export function notTrashedError(volume: Volume): AppError {
  return volumeConflict(
    volume.state === "trashed"
      ? `Volume ${volume.id} is being purged or restored, or its retention is over.`
      : `Volume ${volume.id} is in use by set ${volume.setId}: delete the set first.`,
  );
}
