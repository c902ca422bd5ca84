import { AppError } from "../../contracts/common/app-error.ts";
import type { ResizeService } from "../../contracts/api/services.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import type { FleetHostRow } from "../../db/queries/placement/fleet.ts";
import type { SizedSet } from "../../db/queries/services/resizes.ts";
import { findTemplate, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { assert } from "../../lib/assert.ts";
import type { PlanPolicy, Resources } from "../../scheduler/placement/model.ts";
import { hostSnapshotOf } from "../placement/fleet-cache.ts";
import { fitsGrowth, growthOf } from "../placement/growth.ts";

/** A revision and the copy of it with the new amounts. */
export interface ResizeStep {
  revision: number;
  newRevision: number;
  from: SetTemplate;
  to: SetTemplate;
}

/**
 * One step for each revision that sets are of, and for the service's own. Oldest first, so that the copy of the service's own
 * revision is its newest. Throws invalid-request when a volume would have to shrink or come to be.
 */
export async function planResizeSteps(
  tx: Queryable,
  service: ServiceRow,
  sets: readonly SizedSet[],
  body: ResizeService,
): Promise<ResizeStep[]> {
  const inUse = sets.map(({ revision }) => revision);
  const revisions = [...new Set([...inUse, service.revision])].sort((a, b) => a - b);
  const steps: ResizeStep[] = [];
  for (const [position, revision] of revisions.entries()) {
    const from = await findTemplate(tx, service.id, revision);
    assert(from, "a revision that sets are of exists");
    steps.push({
      revision,
      newRevision: service.revision + 1 + position,
      from,
      to: resized(from, body),
    });
  }
  return steps;
}

function resized(template: SetTemplate, body: ResizeService): SetTemplate {
  const { volume } = template;
  if (body.volume !== undefined && !volume) {
    throw invalid("/volume", "The service has no volume in its template; sets cannot get one now.");
  }
  if (body.volume !== undefined && volume && body.volume < volume.sizeBytes) {
    throw invalid("/volume", `Volumes grow only: this one has ${volume.sizeBytes} bytes.`);
  }
  return {
    ...template,
    cpuMillis: body.cpu ?? template.cpuMillis,
    memoryBytes: body.memory ?? template.memoryBytes,
    volume: volume && { ...volume, sizeBytes: body.volume ?? volume.sizeBytes },
  };
}

export function isSameSize({ from, to }: ResizeStep): boolean {
  return (
    from.cpuMillis === to.cpuMillis &&
    from.memoryBytes === to.memoryBytes &&
    from.volume?.sizeBytes === to.volume?.sizeBytes
  );
}

export function stepOf(steps: readonly ResizeStep[], revision: number): ResizeStep {
  const step = steps.find((candidate) => candidate.revision === revision);
  assert(step, "each revision that sets are of has a step");
  return step;
}

/** Sets of one host that it has no room to let grow, beside those that it has. */
export interface ShortHost {
  hostId: string;
  name: string;
  isLost: boolean;
  /** What is short, and by how much for the first of them. */
  why: string;
  sets: SizedSet[];
}

/**
 * Which sets have no room on their hosts, whose locked rows are given: as few as there can be, with all that is there kept
 * beside what grows. Those that need least grow first, ties by id.
 */
export function findShortHosts(
  rows: readonly FleetHostRow[],
  policy: PlanPolicy,
  sets: readonly SizedSet[],
  steps: readonly ResizeStep[],
): ShortHost[] {
  return rows.flatMap((row) => {
    const host = hostSnapshotOf(row);
    const short: SizedSet[] = [];
    let why = "";
    for (const { set, growth } of bySmallestGrowth(row.id, sets, steps)) {
      const fit = fitsGrowth(host, policy, growth);
      if (fit.ok) continue;
      why ||= `${fit.reason} by ${fit.shortBy}`;
      short.push(set);
    }
    if (short.length === 0) return [];
    return [{ hostId: row.id, name: row.name, isLost: row.state === "lost", why, sets: short }];
  });
}

function bySmallestGrowth(
  hostId: string,
  sets: readonly SizedSet[],
  steps: readonly ResizeStep[],
): { set: SizedSet; growth: Resources }[] {
  return sets
    .filter((set) => set.hostId === hostId && !set.isGoing)
    .map((set) => ({ set, growth: growthOf(set, stepOf(steps, set.revision).to) }))
    .sort(
      (a, b) =>
        a.growth.cpuMillis - b.growth.cpuMillis ||
        a.growth.memoryBytes - b.growth.memoryBytes ||
        (a.set.id < b.set.id ? -1 : 1),
    );
}

export function invalid(pointer: string, detail: string): AppError {
  return new AppError("invalid-request", { detail, errors: [{ pointer, detail }] });
}
