import { type Api, mount } from "../http/operation.ts";
import { acceptMachineHandler, acceptMachineRoute } from "./accept-machine.ts";
import { adoptVolumesHandler, adoptVolumesRoute } from "./adopt-volumes.ts";
import {
  changeSchedulableHandler,
  cordonHostRoute,
  drainHostHandler,
  drainHostRoute,
  uncordonHostRoute,
} from "./cordon-host.ts";
import { deleteHostHandler, deleteHostRoute } from "./delete-host.ts";
import { deleteUnknownSetsHandler, deleteUnknownSetsRoute } from "./delete-unknown-sets.ts";
import { getHostHandler, getHostRoute } from "./get-host.ts";
import { listHostPoolsHandler, listHostPoolsRoute } from "./list-host-pools.ts";
import { listHostsHandler, listHostsRoute } from "./list-hosts.ts";
import { patchHostHandler, patchHostRoute } from "./patch-host.ts";
import {
  rotateHostCredentialHandler,
  rotateHostCredentialRoute,
} from "./rotate-host-credential.ts";
import { putHostPoolHandler, putHostPoolRoute } from "./put-host-pool.ts";

export function mountHosts(api: Api): void {
  mount(api, listHostsRoute, listHostsHandler);
  mount(api, getHostRoute, getHostHandler);
  mount(api, patchHostRoute, patchHostHandler);
  mount(api, cordonHostRoute, changeSchedulableHandler("cordon"));
  mount(api, uncordonHostRoute, changeSchedulableHandler("uncordon"));
  mount(api, drainHostRoute, drainHostHandler);
  mount(api, acceptMachineRoute, acceptMachineHandler);
  mount(api, rotateHostCredentialRoute, rotateHostCredentialHandler);
  mount(api, adoptVolumesRoute, adoptVolumesHandler);
  mount(api, deleteHostRoute, deleteHostHandler);
  mount(api, deleteUnknownSetsRoute, deleteUnknownSetsHandler);
  mount(api, listHostPoolsRoute, listHostPoolsHandler);
  mount(api, putHostPoolRoute, putHostPoolHandler);
}
