import { type Api, mount } from "../http/operation.ts";
import { planServiceHandler, planServiceRoute } from "./plan-service.ts";

export function mountPlan(api: Api): void {
  mount(api, planServiceRoute, planServiceHandler, { isShared: true });
}
