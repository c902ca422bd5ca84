import { sql } from "drizzle-orm";
import type { z } from "zod";
import type { ContainerStatus } from "../../../src/contracts/api/sets.ts";
import { createRolloutBody } from "../../../src/contracts/api/rollout-requests.ts";
import type { Caller } from "../../../src/contracts/api/caller.ts";
import type { ObservedSet } from "../../../src/contracts/agent-protocol/observed-set.ts";
import { createRollout } from "../../../src/control/rollouts/create-rollout.ts";
import { getRollout } from "../../../src/control/rollouts/get-rollout.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, observed, serviceBody } from "./fleet-context.ts";

type RolloutInput = z.input<typeof createRolloutBody>;

export const rolloutCaller: Caller = {
  tokenId: "tok_ann",
  role: "tenant",
  tenantId: null,
  hookId: null,
  pool: null,
};

/** A service of two containers, app and trace. */
export function twoContainers(more: Parameters<typeof serviceBody>[1] = {}) {
  const options = { cpu: 50, memory: 50 };
  return serviceBody("web", {
    template: {
      cpu: 1,
      memory: "1Gi",
      rootfs: "1Gi",
      containers: [
        { index: 0, name: "app", image: "menu:42", options },
        { index: 0, name: "trace", image: "trace:1", options },
      ],
    },
    ...more,
  });
}

/** One step with all sets, in place. */
export const allInPlace: RolloutInput["strategy"] = {
  method: "in-place",
  steps: [{ select: { percent: 100 } }],
};

/** Starts a rollout with another image of the container app. */
export function startRollout(f: FleetContext, more: Partial<RolloutInput> = {}) {
  const change = { containers: { app: { image: "menu:43" } } };
  const hasChange = "template" in more || "toRevision" in more || "restart" in more;
  const body = createRolloutBody.parse({ ...(hasChange ? {} : change), ...more });
  return createRollout(f.ctx, f.tenantId, "web", {
    body,
    caller: rolloutCaller,
    generation: undefined,
  });
}

export function readRollout(f: FleetContext, number = 1) {
  return getRollout(f.ctx, f.tenantId, "web", number);
}

export interface RolloutSetState {
  id: string;
  host: string | null;
  revision: number;
  ready: boolean;
  desired: string;
  phase: string | null;
}

/** The live sets of all services, oldest first. */
export function listRevisions({ ctx }: FleetContext): Promise<RolloutSetState[]> {
  return queryRows(
    ctx.db,
    sql`select s.id, h.name as host, s.revision, s.ready, s.desired, o.phase
        from sets s left join hosts h on h.id = s.host_id left join operations o on o.set_id = s.id
        where s.deleted_at is null and s.desired <> 'deleted' order by s.id`,
  );
}

/** The behavior of the containers of an image, for `obeyWith`. */
export type ImageBehavior = "ok" | "never-ready" | "gives-up" | { restarts: number };

/** Acts as the agent of the host. Images that are not named come up. */
export async function obeyWith(
  f: FleetContext,
  hostId: string,
  behaviors: Record<string, ImageBehavior> = {},
): Promise<void> {
  const { sets } = await f.sync(hostId, { full: true });
  await f.sync(hostId, {
    observed: sets.map((set): ObservedSet => {
      if (set.desired === "deleted") return observed(set, "absent", { ready: false });
      if (set.desired === "stopped") return observed(set, "stopped", { ready: false });
      const containers = set.template.containers.map(({ name, image }): ContainerStatus => {
        const behavior = behaviors[image] ?? "ok";
        return {
          name,
          state: behavior === "ok" ? "running" : "restarting",
          ready: behavior === "ok",
          dockerId: null,
          restarts: typeof behavior === "object" ? behavior.restarts : 0,
          oomKills: 0,
          rootfsUsedBytes: null,
          exitCode: null,
          startedAt: null,
          reason: null,
        };
      });
      const ready = containers.every((container) => container.ready);
      const gaveUp = set.template.containers.some(({ image }) => behaviors[image] === "gives-up");
      return observed(set, gaveUp ? "failed" : "running", { ready, gaveUp, containers });
    }),
  });
}

export async function listEvents(f: FleetContext, kind: string): Promise<string[]> {
  const rows = await queryRows<{ text: string }>(
    f.ctx.db,
    sql`select text from events where kind like ${kind} order by id`,
  );
  return rows.map(({ text }) => text);
}

/** Lets time pass for a rollout: moves its times, and those of its sets, into the past. */
export async function passTime({ ctx }: FleetContext, seconds: number): Promise<void> {
  const ago = (column: string) =>
    sql.raw(`${column} = ${column} - make_interval(secs => ${seconds})`);
  await ctx.db.execute(
    sql`update rollouts set ${ago("step_began_at")}, ${ago("gate_since")}, ${ago("started_at")}, due_at = now()`,
  );
  await ctx.db.execute(sql`update rollout_measurements set ${ago("within_since")}, ${ago("at")}`);
  await ctx.db.execute(sql`update rollout_sets set ${ago("began_at")}, ${ago("ready_at")}`);
  await ctx.db.execute(
    sql`update sets set ${ago("ready_since")}, ${ago("unready_since")}, ${ago("placed_at")}`,
  );
  await ctx.db.execute(sql`update hosts set ${ago("returned_at")}, ${ago("enrolled_at")}`);
}
