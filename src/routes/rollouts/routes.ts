import { type Api, mount } from "../http/operation.ts";
import { addMeasurementHandler, addMeasurementRoute } from "./add-measurement.ts";
import {
  pauseRolloutOperation,
  resumeRolloutOperation,
  rollbackRolloutOperation,
} from "./change-rollout.ts";
import { createRolloutHandler, createRolloutRoute } from "./create-rollout.ts";
import { getRolloutHandler, getRolloutRoute } from "./get-rollout.ts";
import { listRolloutsHandler, listRolloutsRoute } from "./list-rollouts.ts";
import { promoteRolloutOperation } from "./promote-rollout.ts";
import { waitRolloutHandler, waitRolloutRoute } from "./wait-rollout.ts";

export function mountRollouts(api: Api): void {
  mount(api, createRolloutRoute, createRolloutHandler);
  mount(api, listRolloutsRoute, listRolloutsHandler);
  mount(api, getRolloutRoute, getRolloutHandler);
  mount(api, pauseRolloutOperation.route, pauseRolloutOperation.handler);
  mount(api, resumeRolloutOperation.route, resumeRolloutOperation.handler);
  mount(api, rollbackRolloutOperation.route, rollbackRolloutOperation.handler);
  mount(api, promoteRolloutOperation.route, promoteRolloutOperation.handler);
  mount(api, addMeasurementRoute, addMeasurementHandler);
  mount(api, waitRolloutRoute, waitRolloutHandler, { timeLimitMs: null, isWait: true });
}
