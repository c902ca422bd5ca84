import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { readReplicaCounts } from "../../db/queries/operations/read-operations.ts";
import {
  type CandidateRow,
  type FactsScope,
  listOpenRecords,
  listRolloutCandidates,
  listUnhealthySets,
  noteReadyRecords,
  type OpenRecordRow,
  readRolloutTotals,
  type StoredSetOperation,
} from "../../db/queries/rollouts/rollout-facts.ts";
import { type ActiveRollout, findMeasurement } from "../../db/queries/rollouts/rollouts.ts";
import { type ChangedImages, compareImages, HostImageReader } from "./prefetch-images.ts";
import { findTemplate, type ServiceRow } from "../../db/queries/services/write-services.ts";
import {
  compareTemplates,
  describeRestart,
  type TemplateDiff,
} from "../../scheduler/rollout/compare-templates.ts";
import {
  type Candidate,
  CANDIDATES_MAX,
  OPEN_RECORDS_MAX,
  type OpenRecord,
  type Position,
  type RolloutFacts,
  type RolloutInput,
  type SetOperation,
} from "../../scheduler/rollout/rollout-input.ts";

/** The facts of a round, and the templates that they compare. */
export interface RoundFacts {
  input: RolloutInput;
  diffs: DiffReader;
  images: ChangedImages;
}

/**
 * Reads everything that a round of a rollout decides by, and notes which updated sets are ready.
 * The caller has locked the service.
 */
export async function readRolloutInput(
  tx: Queryable,
  service: ServiceRow,
  rollout: ActiveRollout,
): Promise<RoundFacts> {
  const { minReadySeconds } = service.disruption;
  const scope: FactsScope = { rollout, minReadySeconds, limit: CANDIDATES_MAX };
  const counts = await readReplicaCounts(tx, service.id, {
    desired: service.desiredReplicas,
    minReadySeconds,
  });
  const { stopped, ...totals } = await readRolloutTotals(tx, scope);
  const candidates = await listRolloutCandidates(tx, scope);
  const open = await listOpenRecords(tx, { ...scope, limit: OPEN_RECORDS_MAX });
  const unhealthy = await listUnhealthySets(tx, scope);
  const diffs = new DiffReader(tx, service.id, rollout.kind === "restart");
  const images = compareImages(
    await diffs.template(rollout.fromRevision),
    await diffs.template(rollout.toRevision),
  );
  const hostIds = [...candidates, ...open].flatMap(({ hostId }) => hostId ?? []);
  const hostImages = await HostImageReader.read(tx, rollout.id, images, [...new Set(hostIds)]);
  const toPosition = (revision: number): Position =>
    revision === rollout.toRevision ? "to" : revision === rollout.fromRevision ? "from" : "other";
  const input: RolloutInput = {
    nowMs: rollout.nowMs,
    rollout: await readFacts(tx, rollout),
    budget: service.disruption,
    counts,
    totals: { ...totals, desired: Math.max(0, service.desiredReplicas - stopped) },
    candidates: [],
    open: [],
    unhealthy: unhealthy.map((row) => ({
      setId: row.setId,
      readySinceMs: row.readySinceMs ?? undefined,
      wasReady: row.wasReady,
      unreadySinceMs: row.unreadySinceMs ?? undefined,
      placedAtMs: row.placedAtMs,
      hostReadySinceMs: row.hostReadySinceMs ?? undefined,
    })),
  };
  const lists = {
    candidates: await Promise.all(
      candidates.map((row) => toCandidate(row, rollout, { diffs, hostImages, toPosition })),
    ),
    open: await Promise.all(
      open.map((row) => toOpenRecord(row, rollout, { diffs, hostImages, toPosition })),
    ),
  };
  const isUnconfirmed = new Set(open.flatMap((row) => (row.readyAtMs === null ? row.setId : [])));
  await noteReadyRecords(
    tx,
    rollout.id,
    lists.open.flatMap(({ setId, updated }) =>
      updated.readySinceMs !== undefined && isUnconfirmed.has(setId) ? setId : [],
    ),
  );
  return { input: { ...input, ...lists }, diffs, images };
}

async function readFacts(tx: Queryable, rollout: ActiveRollout): Promise<RolloutFacts> {
  const promote = rollout.strategy.steps[rollout.step]?.promote;
  const metric = typeof promote === "object" && "metric" in promote ? promote.metric : undefined;
  const { kind, state, strategy, step, selection, returnsExcess, stepBeganAtMs } = rollout;
  return {
    kind,
    state,
    strategy,
    step,
    selection,
    returnsExcess,
    stepBeganAtMs,
    gateSinceMs: rollout.gateSinceMs ?? undefined,
    measurement: metric === undefined ? undefined : await findMeasurement(tx, rollout.id, metric),
  };
}

/** Compares revisions of a service, and reads each template once. */
export class DiffReader {
  readonly #tx: Queryable;
  readonly #serviceId: string;
  readonly #isRestart: boolean;
  readonly #templates = new Map<number, Promise<SetTemplate | undefined>>();
  readonly #diffs = new Map<string, Promise<TemplateDiff>>();

  constructor(tx: Queryable, serviceId: string, isRestart: boolean) {
    this.#tx = tx;
    this.#serviceId = serviceId;
    this.#isRestart = isRestart;
  }

  template(revision: number): Promise<SetTemplate | undefined> {
    const template =
      this.#templates.get(revision) ?? findTemplate(this.#tx, this.#serviceId, revision);
    this.#templates.set(revision, template);
    return template;
  }

  diff(from: number, to: number): Promise<TemplateDiff> {
    const key = `${from} ${to}`;
    const diff = this.#diffs.get(key) ?? this.#compare(from, to);
    this.#diffs.set(key, diff);
    return diff;
  }

  async #compare(from: number, to: number): Promise<TemplateDiff> {
    const [before, after] = [await this.template(from), await this.template(to)];
    if (!after) throw new Error(`revision ${to} of service ${this.#serviceId} does not exist`);
    // A revision that a set has exists. Without one, everything may differ.
    return this.#isRestart || !before ? describeRestart(after) : compareTemplates(before, after);
  }
}

type ToPosition = (revision: number) => Position;

/** The readers that complete a row. */
interface RowReaders {
  diffs: DiffReader;
  hostImages: HostImageReader;
  toPosition: ToPosition;
}

function toOperation(
  operation: StoredSetOperation | null,
  toPosition: ToPosition,
): SetOperation | undefined {
  if (!operation) return undefined;
  const { phase, owner, toRevision } = operation;
  return { phase, owner: owner === "person" ? "user" : owner, leadsTo: toPosition(toRevision) };
}

async function toCandidate(
  row: CandidateRow,
  { state, fromRevision, toRevision }: ActiveRollout,
  { diffs, hostImages, toPosition }: RowReaders,
): Promise<Candidate> {
  const wanted = state === "rolling-back" || row.at === "to" ? fromRevision : toRevision;
  const { hostId, hostState } = row;
  const template = await diffs.template(wanted);
  return {
    setId: row.setId,
    at: row.at,
    isSelected: row.isSelected,
    isAvailable: row.isServing,
    isYoung: row.isServing && !row.isAvailable,
    isStopped: row.isStopped,
    host:
      hostId === null || hostState === null
        ? undefined
        : { id: hostId, state: hostState, isDraining: row.isHostDraining },
    hasVolume: row.hasVolume,
    hasStaticAddress: template?.networks.some(({ address }) => address !== undefined) ?? false,
    diff: await diffs.diff(row.revision, wanted),
    images: hostImages.stateOf(hostId, wanted === toRevision ? "to" : "from"),
    operation: toOperation(row.operation, toPosition),
  };
}

async function toOpenRecord(
  row: OpenRecordRow,
  { fromRevision, toRevision }: ActiveRollout,
  { diffs, hostImages, toPosition }: RowReaders,
): Promise<OpenRecord> {
  const [wanted, other] =
    row.direction === "to" ? [toRevision, fromRevision] : [fromRevision, toRevision];
  // A set that has the revision already came from the other one, or from an unknown one.
  const diff = await diffs.diff(row.revision === wanted ? other : row.revision, wanted);
  const replaced = new Set(diff.containers);
  const areContainersReady = row.containers.every(
    ({ name, ready }) => ready || !replaced.has(name),
  );
  const isReady = row.ready && row.state === "running" && areContainersReady;
  // The stored readiness ends with each order, so a later one is a report about the new containers.
  const phase = row.operation?.phase;
  const isInProgress = row.beganAtMs === null || phase === "updating" || phase === "leaving";
  const isConfirmed = row.readyAtMs !== null || (isReady && !isInProgress);
  const waitsFor = row.operation?.phase === "waiting" ? row.operation.blockedBy : null;
  return {
    setId: row.setId,
    method: row.method,
    direction: row.direction,
    isSelected: row.isSelected,
    at: row.at,
    isAvailable: row.isServing,
    isYoung: row.isServing && !row.isAvailable,
    diff,
    images: hostImages.stateOf(row.hostId, row.direction),
    hostId: row.hostId ?? undefined,
    operation: toOperation(row.operation, toPosition),
    isHeld: waitsFor === "update-held" || waitsFor === "move-held",
    isStopped: row.isStopped,
    beganAtMs: row.beganAtMs ?? undefined,
    updated: {
      isDeleted: row.isDeleted,
      state: row.state,
      hostReadySinceMs: row.hostReadySinceMs ?? undefined,
      isReady,
      readySinceMs: isReady && isConfirmed ? toReadySince(row) : undefined,
      wasReady: isConfirmed,
      unreadySinceMs: row.unreadySinceMs ?? undefined,
      restarts: Math.max(
        0,
        ...row.containers.map(({ name, restarts }) => restarts - (row.restartsBefore[name] ?? 0)),
      ),
    },
  };
}

/** A set that serves during its update was ready before; its new containers were not. */
function toReadySince({ readySinceMs, beganAtMs }: OpenRecordRow): number | undefined {
  return readySinceMs === null ? undefined : Math.max(readySinceMs, beganAtMs ?? 0);
}
