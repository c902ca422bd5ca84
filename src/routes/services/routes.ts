import { EndpointFeeds } from "../../control/services/endpoint-feeds.ts";
import { type Api, mount } from "../http/operation.ts";
import { createServiceHandler, createServiceRoute } from "./create-service.ts";
import { deleteServiceHandler, deleteServiceRoute } from "./delete-service.ts";
import { getServiceHandler, getServiceRoute } from "./get-service.ts";
import { createListEndpointsHandler, listEndpointsRoute } from "./list-endpoints.ts";
import { listServicesHandler, listServicesRoute } from "./list-services.ts";
import { patchServiceHandler, patchServiceRoute } from "./patch-service.ts";
import { resizeServiceOperation } from "./resize-service.ts";
import { scaleServiceOperation } from "./scale-service.ts";
import { waitServiceHandler, waitServiceRoute } from "./wait-service.ts";

export function mountServices(api: Api): void {
  mount(api, createServiceRoute, createServiceHandler);
  mount(api, listServicesRoute, listServicesHandler);
  mount(api, getServiceRoute, getServiceHandler, { isShared: true });
  mount(api, patchServiceRoute, patchServiceHandler);
  mount(api, deleteServiceRoute, deleteServiceHandler);
  mount(api, scaleServiceOperation.route, scaleServiceOperation.handler);
  mount(api, resizeServiceOperation.route, resizeServiceOperation.handler);
  const feeds = new EndpointFeeds(api.ctx);
  mount(api, listEndpointsRoute, createListEndpointsHandler(feeds, api), { timeLimitMs: null });
  mount(api, waitServiceRoute, waitServiceHandler, { timeLimitMs: null, isWait: true });
}
