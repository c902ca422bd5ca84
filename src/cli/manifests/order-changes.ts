import type { CreateService } from "../../contracts/api/services.ts";

/** The settings of a service that bound each other. */
export type ReplicaSettings = Pick<CreateService, "replicas" | "autoscale">;

/** One request changes the replicas, another one the bounds. */
export type ReplicaChange = Pick<ReplicaSettings, "replicas"> | Pick<ReplicaSettings, "autoscale">;

/**
 * Orders the changes from one setting to another. The replicas are within the bounds after each
 * change. No change removes sets that both settings want, whatever alerts request. Where neither
 * order does that, the first change widens the bounds.
 */
export function orderChanges(before: ReplicaSettings, after: ReplicaSettings): ReplicaChange[] {
  const patch = { autoscale: after.autoscale };
  const scale = { replicas: after.replicas };
  const grows = after.replicas > before.replicas;
  // Without bounds a service has its replicas only, and not the sets that alerts request.
  const mayPatchFirst = after.autoscale
    ? isWithin(before.replicas, after.autoscale)
    : before.autoscale === null || !grows;
  if (mayPatchFirst) return [patch, scale];
  const mayScaleFirst = before.autoscale ? isWithin(after.replicas, before.autoscale) : grows;
  if (mayScaleFirst) return [scale, patch];
  return [{ autoscale: widenBounds(before, after) }, scale, patch];
}

function isWithin(replicas: number, { min, max }: { min: number; max: number }): boolean {
  return replicas >= min && replicas <= max;
}

/** Returns bounds that contain both settings. */
function widenBounds(
  before: ReplicaSettings,
  after: ReplicaSettings,
): ReplicaSettings["autoscale"] {
  const policy = before.autoscale ?? after.autoscale;
  if (policy === null) return null;
  const bounds = [before, after].flatMap(({ replicas, autoscale }) =>
    autoscale ? [replicas, autoscale.min, autoscale.max] : [replicas],
  );
  return { ...policy, min: Math.min(...bounds), max: Math.max(...bounds) };
}
