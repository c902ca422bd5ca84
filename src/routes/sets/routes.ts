import { type Api, mount } from "../http/operation.ts";
import { changeSetHandler, restartSetRoute, startSetRoute, stopSetRoute } from "./change-set.ts";
import { deleteSetHandler, deleteSetRoute } from "./delete-set.ts";
import { explainSetHandler, explainSetRoute } from "./explain-set.ts";
import { getSetHandler, getSetRoute } from "./get-set.ts";
import { listSetsHandler, listSetsRoute } from "./list-sets.ts";
import { moveSetHandler, moveSetRoute } from "./move-set.ts";
import { createReadLogsHandler, readLogsRoute } from "./read-logs.ts";
import { waitSetHandler, waitSetRoute } from "./wait-set.ts";

export function mountSets(api: Api): void {
  mount(api, listSetsRoute, listSetsHandler);
  mount(api, getSetRoute, getSetHandler);
  mount(api, explainSetRoute, explainSetHandler);
  mount(api, waitSetRoute, waitSetHandler, { timeLimitMs: null, isWait: true });
  mount(api, stopSetRoute, changeSetHandler("stop"));
  mount(api, startSetRoute, changeSetHandler("start"));
  mount(api, restartSetRoute, changeSetHandler("restart"));
  mount(api, moveSetRoute, moveSetHandler);
  mount(api, deleteSetRoute, deleteSetHandler);
  mount(api, readLogsRoute, createReadLogsHandler(api.longRequests), { timeLimitMs: null });
}
