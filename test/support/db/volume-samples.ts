import type { Db } from "../../../src/db/postgres/open-postgres.ts";
import * as volumes from "../../../src/db/queries/volumes/volumes.ts";

/** Calls of one query function: together they reach each form of its statement. */
export type Samples = Record<string, (q: Db) => readonly Promise<unknown>[]>;

const noVolumeFilter = { service: undefined, host: undefined, state: undefined };

export const volumeSamples: Samples = {
  storeHostVolumes: (q) => [
    volumes.storeHostVolumes(q, "host", [], { isComplete: true, unknownTenantsMax: 1 }),
  ],
  listPurges: (q) => [volumes.listPurges(q, "host", 1)],
  requestPurge: (q) => [volumes.requestPurge(q, "vol")],
  isRestorable: (q) => [volumes.isRestorable(q, "vol")],
  listSetsWithVolume: (q) => [volumes.listSetsWithVolume(q, "host", ["a", "b"])],
  sumTrash: (q) => [volumes.sumTrash(q, "host")],
  updateRestoreVolume: (q) => [volumes.updateRestoreVolume(q, "set", "vol")],
  listVolumes: (q) => [
    volumes.listVolumes(q, "tnt", { service: "db", host: "host", state: "live" }, "vol", 1),
    volumes.listVolumes(q, null, noVolumeFilter, undefined, 1),
  ],
  findVolume: (q) => [volumes.findVolume(q, "tnt", "vol"), volumes.findVolume(q, null, "vol")],
};
