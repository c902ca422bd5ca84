import type { HookRule, ReplicaRequest } from "../../contracts/api/autoscaling.ts";
import { alertIdentity, findRule, ruleKey } from "./find-rule.ts";
import { computeRequestedReplicas } from "./compute-requested-replicas.ts";

/** A delivered alert, with its times as milliseconds since 1970. */
export interface DeliveredAlert {
  key: string;
  status: "firing" | "resolved";
  /** Undefined if the sender states none: the firing episode of this key, or a new one. */
  startedAtMs: number | undefined;
  endedAtMs: number | undefined;
  labels: Record<string, string>;
  /** The sender's own name of the alert: see alertIdentity. */
  name: string | undefined;
  /** Each episode has a key of its own, so a second `firing` of the key is a repetition. */
  hasUniqueKey: boolean;
}

/** An episode in the database. A key and a start identify it. */
export interface KnownEpisode {
  id: string;
  key: string;
  startedAtMs: number;
  state: "firing" | "resolved" | "released";
  /**
   * The time at which its `resolved` arrived. Undefined while it fires, and after a user released
   * it.
   */
  resolvedAtMs: number | undefined;
}

/**
 * Late copies are seconds old. If a `firing` arrives this long after the `resolved` of its episode,
 * the sender sees the alert again, with its original start.
 */
export const LATE_COPY_AGE_MS_MAX = 120_000;

/**
 * An episode to insert. It is `released` if its `resolved` arrived first: a later `firing` is a
 * late copy.
 */
export interface NewEpisode {
  key: string;
  startedAtMs: number;
  state: "firing" | "resolved" | "released";
  labels: Record<string, string>;
  /** The rule and the alert's identity within it: see find-rule.ts. */
  rule: string;
  identity: string;
  want: ReplicaRequest;
  holdMaxSeconds: number | undefined;
  baseReplicas: number;
  wantedReplicas: number;
}

export interface FoldInput {
  rules: readonly HookRule[];
  /**
   * For each delivered key: the held episodes, those that the delivery names, and the newest one.
   */
  known: readonly KnownEpisode[];
  /** The size of the service without steps and factors. */
  baseReplicas: number;
  nowMs: number;
  /** The maximum for every service. */
  replicasMax: number;
  /** The number of episodes that the service may hold besides those that it holds now. */
  newEpisodesMax: number;
  /** The number of unknown episodes whose `resolved` one delivery may store. */
  unknownEndsMax: number;
}

export interface FoldOutcome {
  newEpisodes: NewEpisode[];
  /** Ids of known episodes that this delivery resolves. */
  resolvedIds: string[];
  /** Ids of known episodes that were resolved and fire again. */
  reopenedIds: string[];
  /** Ids of known episodes that fire, and that the delivery mentions. */
  repeatedIds: string[];
  /** Alerts with a demand that is held now, or was held until this delivery. */
  accepted: number;
  ignored: number;
}

/** One firing of an alert, from start to end. A new episode has no id yet. */
type AlertEpisode = { id: string | undefined } & Omit<KnownEpisode, "id">;

interface Fold {
  input: FoldInput;
  newEpisodes: Map<AlertEpisode, NewEpisode>;
  /** Released episodes that the delivery revives; each takes capacity again. */
  revived: number;
  unknownEnds: number;
  repeated: Set<string>;
}

/**
 * Computes how a delivery changes the episodes of its alerts. Pure. The life of an alert:
 *
 * - A key and a start identify an episode. The database stores it once, so a repeated delivery has
 *   one effect.
 * - A resolved episode fires again only if a `firing` arrives later than LATE_COPY_AGE_MS_MAX. An
 *   episode that a user released never fires again.
 * - Two Prometheus servers see one alert begin at different moments. So a `resolved` with an end
 *   time resolves every episode of the key that began before it.
 * - The `resolved` of an unknown episode is stored, because its `firing` may arrive later.
 * - Only its own `resolved` ends an episode. Alerts that a delivery omits keep their state (I12).
 */
export function foldAlerts(input: FoldInput, alerts: readonly DeliveredAlert[]): FoldOutcome {
  const episodesByKey = new Map<string, AlertEpisode[]>();
  for (const episode of input.known) getEpisodes(episodesByKey, episode.key).push({ ...episode });
  const fold: Fold = {
    input,
    newEpisodes: new Map(),
    revived: 0,
    unknownEnds: 0,
    repeated: new Set(),
  };
  let accepted = 0;
  for (const alert of alerts) {
    const episodes = getEpisodes(episodesByKey, alert.key);
    if (alert.status === "firing" ? begin(fold, episodes, alert) : end(fold, episodes, alert))
      accepted++;
  }
  const knownStates = new Map(input.known.map((episode) => [episode.id, episode.state]));
  const after = [...episodesByKey.values()].flat();
  const changedTo = (state: AlertEpisode["state"]) =>
    after.flatMap(({ id, state: now }) =>
      id !== undefined && now === state && knownStates.get(id) !== state ? id : [],
    );
  return {
    newEpisodes: [...fold.newEpisodes].map(([episode, stored]) => ({
      ...stored,
      state: episode.state,
    })),
    resolvedIds: changedTo("resolved"),
    reopenedIds: changedTo("firing"),
    repeatedIds: [...fold.repeated],
    accepted,
    ignored: alerts.length - accepted,
  };
}

function begin(fold: Fold, episodes: AlertEpisode[], alert: DeliveredAlert): boolean {
  const same = findSameEpisode(episodes, alert);
  if (same) {
    if (hasFiredAgain(same, fold.input)) revive(fold, same);
    if (same.state === "firing" && same.id !== undefined) fold.repeated.add(same.id);
    return same.state !== "released";
  }
  const startedAtMs = alert.startedAtMs ?? nextStartMs(fold, episodes);
  if (!hasCapacity(fold)) return false;
  return insert(fold, episodes, alert, startedAtMs, "firing");
}

function findSameEpisode(
  episodes: readonly AlertEpisode[],
  alert: DeliveredAlert,
): AlertEpisode | undefined {
  if (alert.startedAtMs !== undefined) {
    return episodes.find((episode) => episode.startedAtMs === alert.startedAtMs);
  }
  return alert.hasUniqueKey
    ? episodes[0]
    : oldest(episodes.filter((episode) => episode.state === "firing"));
}

/**
 * Chooses the start of an episode if the sender states none: after all other episodes of the key.
 */
function nextStartMs({ input }: Fold, episodes: readonly AlertEpisode[]): number {
  return Math.max(input.nowMs, ...episodes.map((episode) => episode.startedAtMs + 1));
}

function hasFiredAgain({ state, resolvedAtMs }: AlertEpisode, { nowMs }: FoldInput): boolean {
  return (
    state !== "firing" && resolvedAtMs !== undefined && nowMs - resolvedAtMs >= LATE_COPY_AGE_MS_MAX
  );
}

/** Makes an episode fire again. Only a released one counts as a new demand. */
function revive(fold: Fold, episode: AlertEpisode): void {
  if (episode.state === "released") {
    if (!hasCapacity(fold)) return;
    fold.revived++;
  }
  episode.state = "firing";
}

function hasCapacity({ input, newEpisodes, revived, unknownEnds }: Fold): boolean {
  return newEpisodes.size - unknownEnds + revived < input.newEpisodesMax;
}

function end(fold: Fold, episodes: AlertEpisode[], alert: DeliveredAlert): boolean {
  const isOver = (episode: AlertEpisode) =>
    alert.startedAtMs === undefined ||
    episode.startedAtMs === alert.startedAtMs ||
    (alert.endedAtMs !== undefined && episode.startedAtMs <= alert.endedAtMs);
  const over = episodes.filter((episode) => episode.state !== "released" && isOver(episode));
  for (const episode of over) {
    if (episode.state === "firing") episode.resolvedAtMs = fold.input.nowMs;
    episode.state = "resolved";
  }
  const isKnown =
    alert.startedAtMs === undefined
      ? !alert.hasUniqueKey || episodes.length > 0
      : episodes.some((episode) => episode.startedAtMs === alert.startedAtMs);
  if (!isKnown && fold.unknownEnds < fold.input.unknownEndsMax) {
    const startedAtMs = alert.startedAtMs ?? nextStartMs(fold, episodes);
    if (insert(fold, episodes, alert, startedAtMs, "released")) fold.unknownEnds++;
  }
  return over.length > 0;
}

/** Inserts an episode if a rule matches its alert. */
function insert(
  fold: Fold,
  episodes: AlertEpisode[],
  alert: DeliveredAlert,
  startedAtMs: number,
  state: "firing" | "released",
): boolean {
  const { input, newEpisodes } = fold;
  const rule = findRule(input.rules, alert.labels);
  if (!rule) return false;
  const episode: AlertEpisode = {
    id: undefined,
    key: alert.key,
    startedAtMs,
    state,
    resolvedAtMs: state === "firing" ? undefined : input.nowMs,
  };
  episodes.push(episode);
  newEpisodes.set(episode, {
    key: alert.key,
    startedAtMs,
    state,
    labels: alert.labels,
    rule: ruleKey(rule),
    identity: alertIdentity(rule, alert),
    want: rule.want,
    holdMaxSeconds: rule.holdMaxSeconds,
    baseReplicas: input.baseReplicas,
    wantedReplicas: computeRequestedReplicas(rule.want, input.baseReplicas, 1, input.replicasMax),
  });
  return true;
}

function oldest(episodes: readonly AlertEpisode[]): AlertEpisode | undefined {
  return episodes.toSorted((a, b) => a.startedAtMs - b.startedAtMs)[0];
}

function getEpisodes(episodesByKey: Map<string, AlertEpisode[]>, key: string): AlertEpisode[] {
  const episodes = episodesByKey.get(key) ?? [];
  episodesByKey.set(key, episodes);
  return episodes;
}
