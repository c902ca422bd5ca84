import { EventTail } from "../../control/events/event-tail.ts";
import { type Api, mount } from "../http/operation.ts";
import { createListEventsHandler, listEventsRoute } from "./list-events.ts";

export function mountEvents(api: Api): void {
  const tail = new EventTail(api.ctx);
  mount(api, listEventsRoute, createListEventsHandler(tail, api), {
    timeLimitMs: null,
  });
}
