import { createRoute } from "@hono/zod-openapi";
import { drainHostBody, type Host, hostSchema } from "../../contracts/api/hosts.ts";
import { cordonHost } from "../../control/hosts/cordon-host.ts";
import { drainHost } from "../../control/hosts/drain-host.ts";
import { uncordonHost } from "../../control/hosts/uncordon-host.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import {
  bodyProblems,
  commonProblems,
  idempotentHeaders,
  jsonResponse,
  optionalJsonBody,
  type OperationHandler,
} from "../http/operation.ts";
import { hostParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { operators } from "../http/security.ts";

type SchedulingChange = "cordon" | "uncordon";

const schedulingChanges: Record<
  SchedulingChange,
  { summary: string; apply: (ctx: ControlContext, hostId: string) => Promise<Host> }
> = {
  cordon: {
    summary: "Cordon a host: it accepts no new sets, and its sets stay",
    apply: cordonHost,
  },
  uncordon: { summary: "Uncordon a host, and cancel its drain", apply: uncordonHost },
};

function changeSchedulableRoute<C extends SchedulingChange>(change: C) {
  return createRoute({
    method: "post",
    path: `/v1/hosts/{hostId}/${change}`,
    operationId: `${change}Host`,
    tags: ["hosts"],
    summary: schedulingChanges[change].summary,
    security: operators,
    request: { params: hostParameters, headers: idempotentHeaders },
    responses: {
      200: jsonResponse(hostSchema, "The host."),
      ...commonProblems,
      ...problems("idempotency-conflict", "idempotency-in-progress"),
    },
  });
}

export const cordonHostRoute = changeSchedulableRoute("cordon");
export const uncordonHostRoute = changeSchedulableRoute("uncordon");

export const drainHostRoute = createRoute({
  method: "post",
  path: "/v1/hosts/{hostId}/drain",
  operationId: "drainHost",
  tags: ["hosts"],
  summary: "Drain a host: move its sets to other hosts, and place no new sets on it",
  description:
    "Moves the sets of all services concurrently, each within the disruption budget of its service. A set that waits says why in `operation.blocked`.",
  security: operators,
  request: {
    params: hostParameters,
    headers: idempotentHeaders,
    body: optionalJsonBody(drainHostBody),
  },
  responses: {
    200: jsonResponse(hostSchema, "The host."),
    ...bodyProblems,
    ...problems("idempotency-conflict", "idempotency-in-progress"),
  },
});

export const drainHostHandler: OperationHandler<typeof drainHostRoute> = (ctx) => async (c) =>
  c.json(await drainHost(ctx, c.req.valid("param").hostId, c.req.valid("json")), 200);

export function changeSchedulableHandler<C extends SchedulingChange>(
  change: C,
): OperationHandler<ReturnType<typeof changeSchedulableRoute<C>>> {
  const { apply } = schedulingChanges[change];
  return (ctx) => async (c) => c.json(await apply(ctx, c.req.valid("param").hostId), 200);
}
