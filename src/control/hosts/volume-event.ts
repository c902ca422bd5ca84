import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import type { VolumeChangeRow } from "../../db/queries/volumes/volumes.ts";

/** The event of a change that a host reported of one of its volumes. */
export function volumeEvent(change: VolumeChangeRow, hostId: string): EmittedEvent {
  const { volumeId: volume, tenantId, serviceId, setId } = change;
  const subjects = { tenantId, serviceId, setId, hostId };
  switch (change.change) {
    case "trashed":
      return {
        kind: "volume-trashed",
        data: { volume, expiresAt: change.expiresAt ?? "its retention ends" },
        ...subjects,
      };
    case "not-purged":
      return {
        kind: "volume-not-purged",
        data: { volume, reason: change.reason ?? "The host reports no reason." },
        ...subjects,
      };
    case "restored":
      return { kind: "volume-restored", data: { volume }, ...subjects };
    case "purged":
      return { kind: "volume-purged", data: { volume }, ...subjects };
    case "missing":
      return { kind: "volume-lost", data: { volume, cause: "missing" }, ...subjects };
  }
}
