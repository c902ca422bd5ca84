import { createRoute, z } from "@hono/zod-openapi";
import { idSchema, nameSchema } from "../../contracts/common/primitives.ts";
import { openSession, type SessionLimits } from "../../control/sessions/open-session.ts";
import { runSession } from "../../control/sessions/run-session.ts";
import { linkAbort, onAbort } from "../../lib/async/abort.ts";
import { prepareSocket } from "../http/accept-socket.ts";
import { getCaller } from "../http/api-env.ts";
import { createPermitCheck } from "../http/authorize.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

const params = z.object({ setId: idSchema("set"), container: nameSchema });
const responses = {
  101: { description: "The WebSocket of the session." },
  ...commonProblems,
  ...problems("state-conflict", "unsupported", "rate-limited"),
};

type Kind = "exec" | "attach";

const texts: Record<Kind, { summary: string; description: string }> = {
  exec: {
    summary: "Run a program in a container",
    description:
      "A WebSocket with the frames of docs/internals/sessions.md. The first frame has the command. An infra container is refused.",
  },
  attach: {
    summary: "Follow the output of a container's main process",
    description:
      "A WebSocket with the frames of docs/internals/sessions.md. It has the output from now on, and at last the exit code. An infra container is refused.",
  },
};

function createSessionRoute<K extends Kind>(kind: K) {
  return createRoute({
    method: "get",
    path: `/v1/sets/{setId}/containers/{container}/${kind}`,
    operationId: `${kind}Session`,
    tags: ["sessions"],
    summary: texts[kind].summary,
    description: texts[kind].description,
    security: writers,
    request: { params },
    responses,
  });
}

export const execRoute = createSessionRoute("exec");
export const attachRoute = createSessionRoute("attach");

/** Both routes share `limits`. Aborts pending requests with `streamsEnd`. */
export function createSessionHandler<K extends Kind>(
  kind: K,
  { limits, streamsEnd }: { limits: SessionLimits; streamsEnd: AbortSignal | undefined },
): OperationHandler<ReturnType<typeof createSessionRoute<K>>> {
  return (ctx) => async (c) => {
    const { setId, container } = c.req.valid("param");
    const accept = prepareSocket(c);
    const { controller, unlink } = linkAbort(c.req.raw.signal);
    const unlinkEnd = onAbort(streamsEnd, () => controller.abort(new Error("the API stops")));
    try {
      const by = { caller: getCaller(c), scope: c.get("scope"), limits };
      const call = { setId, container, kind, client: "cli" as const };
      const opened = await openSession(ctx, by, call, controller.signal);
      return accept({
        run: (socket) => runSession(ctx, opened, socket, createPermitCheck(ctx, c)),
        abandon: opened.abandon,
      });
    } finally {
      unlink();
      unlinkEnd();
    }
  };
}
