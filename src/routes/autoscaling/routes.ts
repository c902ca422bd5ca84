import { type Api, mount } from "../http/operation.ts";
import { createHookHandler, createHookRoute } from "./create-hook.ts";
import { deleteHookHandler, deleteHookRoute } from "./delete-hook.ts";
import { listDecisionsHandler, listDecisionsRoute } from "./list-decisions.ts";
import { listDemandsHandler, listDemandsRoute } from "./list-demands.ts";
import { listHooksHandler, listHooksRoute } from "./list-hooks.ts";
import { patchHookHandler, patchHookRoute } from "./patch-hook.ts";
import { releaseDemandHandler, releaseDemandRoute } from "./release-demand.ts";
import { rotateHookHandler, rotateHookRoute } from "./rotate-hook.ts";

export function mountAutoscaling(api: Api): void {
  mount(api, createHookRoute, createHookHandler);
  mount(api, listHooksRoute, listHooksHandler);
  mount(api, patchHookRoute, patchHookHandler);
  mount(api, rotateHookRoute, rotateHookHandler);
  mount(api, deleteHookRoute, deleteHookHandler);
  mount(api, listDemandsRoute, listDemandsHandler);
  mount(api, releaseDemandRoute, releaseDemandHandler);
  mount(api, listDecisionsRoute, listDecisionsHandler);
}
