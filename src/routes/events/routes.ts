import { type Api, mount } from "../http/operation.ts";
import { listEventsHandler, listEventsRoute } from "./list-events.ts";

export function mountEvents(api: Api): void {
  mount(api, listEventsRoute, listEventsHandler, { timeLimitMs: null });
}
