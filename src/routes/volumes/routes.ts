import { type Api, mount } from "../http/operation.ts";
import { listVolumesHandler, listVolumesRoute } from "./list-volumes.ts";
import { purgeVolumeHandler, purgeVolumeRoute } from "./purge-volume.ts";
import { restoreVolumeHandler, restoreVolumeRoute } from "./restore-volume.ts";

export function mountVolumes(api: Api): void {
  mount(api, listVolumesRoute, listVolumesHandler);
  mount(api, restoreVolumeRoute, restoreVolumeHandler);
  mount(api, purgeVolumeRoute, purgeVolumeHandler);
}
