import type { Tenant, Token } from "../../contracts/api/tenancy.ts";
import type { Decision, Demand, Hook, HookRule } from "../../contracts/api/autoscaling.ts";
import type { BerthEvent } from "../../contracts/api/events.ts";
import type { Host, HostPool } from "../../contracts/api/hosts.ts";
import type { Registry } from "../../contracts/api/registries.ts";
import type { Service, ServiceCounts } from "../../contracts/api/services.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Volume } from "../../contracts/api/volumes.ts";
import { formatAge, formatBytes, formatCores } from "./format-amounts.ts";
import { plainText } from "./plain-text.ts";
import type { Tone } from "./terminal.ts";

/** A column of a table. Wide columns appear only with -o wide. */
export interface Column<T> {
  head: string;
  wide?: boolean;
  cell: (item: T, nowMs: number) => string;
  tone?: (item: T) => Tone | undefined;
}

/** Transitional states, in their order. */
const busyStates = ["pending", "placed", "preparing", "starting", "stopping"] as const;
const badStates = ["failed", "lost"] as const;

/** Describes the sets in transitional or bad states: "2 starting, 1 pending". Empty without any. */
export function describeCounts(counts: ServiceCounts): string {
  return [...badStates, ...busyStates]
    .filter((state) => counts[state] > 0)
    .map((state) => `${counts[state]} ${state}`)
    .join(", ");
}

export function serviceStatus(service: Service): string {
  const counts = describeCounts(service.counts);
  if (service.deleting) return counts === "" ? "deleting" : `deleting: ${counts}`;
  if (service.settled) return "settled";
  return counts === "" ? "settling" : counts;
}

function serviceTone(service: Service): Tone {
  if (service.counts.failed + service.counts.lost > 0) return "bad";
  return service.settled ? "good" : "warn";
}

export const serviceColumns: readonly Column<Service>[] = [
  { head: "NAME", cell: (service) => service.name },
  { head: "TENANT", wide: true, cell: (service) => service.tenant },
  { head: "READY", cell: (service) => `${service.counts.ready}/${service.desiredReplicas}` },
  { head: "REPLICAS", cell: (service) => String(service.replicas) },
  { head: "STATUS", cell: serviceStatus, tone: serviceTone },
  { head: "REVISION", wide: true, cell: (service) => String(service.revision) },
  { head: "GENERATION", wide: true, cell: (service) => String(service.generation) },
  { head: "CPU", wide: true, cell: (service) => formatCores(service.template.cpuMillis) },
  { head: "MEMORY", wide: true, cell: (service) => formatBytes(service.template.memoryBytes) },
  {
    head: "AUTOSCALE",
    cell: ({ autoscale }) => (autoscale ? `${autoscale.min}-${autoscale.max}` : ""),
  },
  {
    head: "ADDRESSES",
    wide: true,
    cell: ({ addresses }) => addresses.flatMap((each) => each.addresses).join(" "),
  },
  {
    head: "GATEWAY PORTS",
    wide: true,
    cell: ({ gatewayPorts }) =>
      gatewayPorts
        .map((each) => `${each.port} at ${each.gatewayGroup}:${each.gatewayPort}`)
        .join(" "),
  },
  { head: "AGE", cell: (service, nowMs) => formatAge(service.createdAt, nowMs) },
  { head: "REASON", cell: (service) => plainText(service.reason?.text ?? "") },
];

export const setColumns: readonly Column<BerthSet>[] = [
  { head: "ID", cell: (set) => set.id },
  { head: "TENANT", wide: true, cell: (set) => set.tenant },
  { head: "SERVICE", cell: (set) => set.service },
  { head: "STATE", cell: setStatus, tone: setTone },
  { head: "HOST", cell: (set) => set.host?.name ?? "" },
  { head: "OPERATION", cell: operationText },
  { head: "ADDRESS", cell: (set) => set.address ?? "" },
  { head: "RESTARTS", cell: (set) => String(restartsOf(set)) },
  { head: "REVISION", wide: true, cell: (set) => String(set.revision) },
  { head: "ROOTFS", wide: true, cell: rootfsText },
  { head: "CONTAINERS", wide: true, cell: (set) => set.containers.map(containerText).join(" ") },
  { head: "AGE", cell: (set, nowMs) => formatAge(set.createdAt, nowMs) },
  { head: "REASON", cell: (set) => plainText(set.reason?.text ?? "") },
];

function setStatus(set: BerthSet): string {
  if (set.desired === "deleted" && set.state !== "stopping") return `${set.state}, deleting`;
  if (set.completed) return "completed";
  return set.ready ? "ready" : set.state;
}

/** Describes a move, a rollout and so on. STATE already shows a start, a stop and a removal. */
function operationText({ operation }: BerthSet): string {
  return operation === null || operation.owner === null
    ? ""
    : `${operation.kind}, ${operation.phase}`;
}

function setTone(set: BerthSet): Tone | undefined {
  if (set.state === "failed" || set.state === "lost") return "bad";
  if (set.ready) return "good";
  return set.state === "stopped" ? undefined : "warn";
}

function restartsOf(set: BerthSet): number {
  return set.containers.reduce((sum, container) => sum + container.restarts, 0);
}

/** The bytes that the containers have written, and their limit. */
export function rootfsText({ containers, rootfsBytes }: BerthSet): string {
  const used = containers.flatMap(({ rootfsUsedBytes }) => rootfsUsedBytes ?? []);
  if (used.length === 0) return `?/${formatBytes(rootfsBytes)}`;
  return `${formatBytes(used.reduce((sum, bytes) => sum + bytes, 0))}/${formatBytes(rootfsBytes)}`;
}

function containerText(container: BerthSet["containers"][number]): string {
  const isCompleted = container.ready && container.state === "exited";
  const status = isCompleted ? "completed" : container.ready ? "ready" : container.state;
  return `${container.name}:${status}`;
}

export const hostColumns: readonly Column<Host>[] = [
  { head: "NAME", cell: (host) => host.name },
  { head: "ID", wide: true, cell: (host) => host.id },
  { head: "STATE", cell: hostStatus, tone: hostTone },
  { head: "POOL", cell: (host) => host.pool },
  { head: "ZONE", cell: (host) => host.zone },
  { head: "RACK", cell: (host) => host.rack },
  { head: "SETS", cell: (host) => String(host.sets) },
  {
    head: "CPU",
    cell: ({ allocated, allocatable }) =>
      `${formatCores(allocated.cpuMillis)}/${formatCores(allocatable.cpuMillis)}`,
  },
  {
    head: "MEMORY",
    cell: ({ allocated, allocatable }) =>
      `${formatBytes(allocated.memoryBytes)}/${formatBytes(allocatable.memoryBytes)}`,
  },
  {
    head: "USED CPU",
    wide: true,
    cell: ({ reported }) => (reported ? formatCores(reported.used.cpuMillis) : ""),
  },
  {
    head: "USED MEMORY",
    wide: true,
    cell: ({ reported }) => (reported ? formatBytes(reported.used.memoryBytes) : ""),
  },
  {
    head: "DISK",
    cell: ({ allocatable, reported }) =>
      reported
        ? `${formatBytes(reported.used.rootfsBytes)}/${formatBytes(allocatable.rootfsBytes)}`
        : "",
  },
  {
    head: "VOLUMES",
    cell: ({ allocatable, reported }) =>
      reported && allocatable.volumeBytes > 0
        ? `${formatBytes(reported.used.volumeBytes)}/${formatBytes(allocatable.volumeBytes)}`
        : "",
  },
  {
    head: "TRASH",
    wide: true,
    cell: ({ reported }) => (reported ? formatBytes(reported.trashedVolumeBytes) : ""),
  },
  {
    head: "IMAGES",
    wide: true,
    cell: ({ reported }) => bytesOrUnknown(reported?.imageBytes),
  },
  {
    head: "CONTAINER DATA",
    wide: true,
    cell: ({ reported }) => bytesOrUnknown(reported?.containerBytes),
  },
  {
    head: "REPORTED",
    wide: true,
    cell: ({ reported }, nowMs) => (reported ? `${formatAge(reported.at, nowMs)} ago` : "never"),
  },
  { head: "CREDENTIAL", wide: true, cell: credentialAge },
  { head: "LABELS", wide: true, cell: (host) => pairs(host.labels) },
  { head: "TAINTS", wide: true, cell: (host) => host.taints.map(taintText).join(",") },
  { head: "GATEWAY GROUP", wide: true, cell: ({ gatewayGroup }) => gatewayGroup ?? "" },
  { head: "AGENT", wide: true, cell: (host) => plainText(host.agentVersion) },
  { head: "REASON", cell: (host) => plainText(hostReason(host)) },
];

/** The age of the credential of a host, and a rotation that has not ended. */
function credentialAge(
  { credential, enrolledAt }: Pick<Host, "enrolledAt"> & Partial<Host>,
  nowMs: number,
): string {
  if (!credential) return "-"; // an API of an earlier release
  const age = formatAge(credential.replacedAt ?? enrolledAt, nowMs);
  return credential.rotationRequestedAt === null ? age : `${age}, rotating`;
}

function hostReason({ reason, reported }: Host): string {
  return reason?.text ?? (reported?.reason ?? reported?.volumeReason)?.text ?? "";
}

function bytesOrUnknown(bytes: number | null | undefined): string {
  return bytes === null || bytes === undefined ? "?" : formatBytes(bytes);
}

function hostStatus(host: Host): string {
  const marks = [host.state];
  const suffix = host.draining ? ", draining" : host.cordoned ? ", cordoned" : "";
  return `${marks.join("")}${suffix}`;
}

function hostTone(host: Host): Tone {
  if (host.state !== "ready") return "bad";
  return host.cordoned || host.draining ? "warn" : "good";
}

function taintText(taint: { key: string; value: string }): string {
  return taint.value === "" ? taint.key : `${taint.key}=${taint.value}`;
}

function pairs(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([key, value]) => plainText(`${key}=${value}`))
    .join(",");
}

export const eventColumns: readonly Column<BerthEvent>[] = [
  { head: "AGE", cell: (event, nowMs) => formatAge(event.at, nowMs) },
  { head: "AT", wide: true, cell: (event) => event.at },
  { head: "KIND", cell: (event) => event.kind },
  { head: "SERVICE", cell: (event) => event.service ?? "" },
  { head: "SET", cell: (event) => event.setId ?? "" },
  { head: "HOST", wide: true, cell: (event) => event.hostId ?? "" },
  { head: "MESSAGE", cell: (event) => plainText(event.text) },
];

export const decisionColumns: readonly Column<Decision>[] = [
  { head: "AGE", cell: (decision, nowMs) => formatAge(decision.at, nowMs) },
  { head: "SERVICE", cell: (decision) => decision.service },
  { head: "FROM", cell: (decision) => String(decision.fromReplicas) },
  { head: "TO", cell: (decision) => String(decision.toReplicas) },
  { head: "CHANGED", cell: (decision) => (decision.acted ? "yes" : "no") },
  { head: "BECAUSE", cell: (decision) => plainText(decision.because.join("; ")) },
  { head: "ID", wide: true, cell: (decision) => decision.id },
];

export const demandColumns: readonly Column<Demand & { service: string }>[] = [
  { head: "SERVICE", cell: (demand) => demand.service },
  { head: "HOOK", cell: (demand) => demand.hook },
  { head: "STATE", cell: (demand) => demand.state },
  { head: "WANTS", cell: (demand) => String(demand.wantedReplicas) },
  { head: "BASE", cell: (demand) => String(demand.baseReplicas) },
  { head: "SINCE", cell: (demand, nowMs) => formatAge(demand.startedAt, nowMs) },
  { head: "LAST RECEIVED", cell: (demand, nowMs) => formatAge(demand.lastReceivedAt, nowMs) },
  { head: "RELEASE", cell: releaseText },
  { head: "KEY", wide: true, cell: (demand) => plainText(demand.key) },
  { head: "ID", wide: true, cell: (demand) => demand.id },
  { head: "ALERT", cell: (demand) => pairs(demand.labels) },
];

function releaseText(demand: Demand, nowMs: number): string {
  if (demand.releaseAt === null) return "";
  const leftMs = Date.parse(demand.releaseAt) - nowMs;
  return leftMs <= 0 ? "due" : `in ${Math.ceil(leftMs / 1000)}s`;
}

export const hookColumns: readonly Column<Hook>[] = [
  { head: "NAME", cell: (hook) => hook.name },
  { head: "SERVICE", cell: (hook) => hook.service },
  { head: "RULES", cell: (hook) => hook.rules.map(ruleText).join("; ") },
  { head: "STABILIZATION", cell: (hook) => `${hook.stabilizationSeconds}s` },
  { head: "ALERTMANAGER PATH", cell: (hook) => hook.paths.alertmanager },
  { head: "GENERIC PATH", wide: true, cell: (hook) => hook.paths.generic },
  { head: "AGE", cell: (hook, nowMs) => formatAge(hook.createdAt, nowMs) },
];

function ruleText(rule: HookRule): string {
  const { replicas, step, factor } = rule.want;
  const want =
    replicas === undefined ? (step === undefined ? `x${factor ?? 1}` : `+${step}`) : `${replicas}`;
  const match = pairs(rule.match);
  return `${match === "" ? "any" : match} -> ${want}`;
}

export const tokenColumns: readonly Column<Token>[] = [
  { head: "NAME", cell: (token) => token.name },
  { head: "ROLE", cell: (token) => token.role },
  { head: "TENANT", cell: (token) => token.tenant ?? "" },
  { head: "STATUS", cell: tokenStatus },
  { head: "EXPIRES", cell: (token) => token.expiresAt ?? "never" },
  { head: "AGE", cell: (token, nowMs) => formatAge(token.createdAt, nowMs) },
  { head: "ID", cell: (token) => token.id },
];

function tokenStatus(token: Token, nowMs: number): string {
  if (token.revokedAt !== null) return "revoked";
  if (token.usedAt !== null && token.role === "enroll") return "used";
  return token.expiresAt !== null && Date.parse(token.expiresAt) <= nowMs ? "expired" : "valid";
}

export const registryColumns: readonly Column<Registry>[] = [
  { head: "REGISTRY", cell: ({ registry }) => registry },
  { head: "USERNAME", cell: ({ username }) => username },
  { head: "TENANT", cell: ({ tenant }) => tenant },
  { head: "CHANGED", cell: ({ updatedAt }, nowMs) => formatAge(updatedAt, nowMs) },
  { head: "ID", wide: true, cell: ({ id }) => id },
];

export const volumeColumns: readonly Column<Volume>[] = [
  { head: "ID", cell: (volume) => volume.id },
  { head: "SERVICE", cell: (volume) => volume.service },
  { head: "TENANT", wide: true, cell: (volume) => volume.tenant },
  {
    head: "STATE",
    cell: (volume) => (volume.purging ? "purging" : volume.state),
    tone: (volume) => (volume.state === "live" ? "good" : "dim"),
  },
  { head: "SIZE", cell: (volume) => formatBytes(volume.sizeBytes) },
  {
    head: "USED",
    cell: ({ usedBytes }) => (usedBytes === null ? "" : formatBytes(usedBytes)),
  },
  { head: "HOST", cell: (volume) => volume.host.name },
  { head: "SET", wide: true, cell: (volume) => volume.setId },
  { head: "EXPIRES", cell: (volume) => volume.expiresAt ?? "" },
  { head: "REASON", cell: (volume) => plainText(volume.reason?.text ?? "") },
];

export const tenantColumns: readonly Column<Tenant>[] = [
  { head: "NAME", cell: (tenant) => tenant.name },
  { head: "SETS", cell: (tenant) => String(tenant.quota.setsMax) },
  { head: "CPU", cell: (tenant) => formatCores(tenant.quota.cpuMillisMax) },
  { head: "MEMORY", cell: (tenant) => formatBytes(tenant.quota.memoryBytesMax) },
  { head: "VOLUME", cell: (tenant) => formatBytes(tenant.quota.volumeBytesMax) },
  { head: "ROOTFS", wide: true, cell: (tenant) => formatBytes(tenant.quota.rootfsBytesMax) },
  { head: "TRASH", wide: true, cell: (tenant) => formatBytes(tenant.quota.trashBytesMax) },
  { head: "AGE", cell: (tenant, nowMs) => formatAge(tenant.createdAt, nowMs) },
  { head: "ID", wide: true, cell: (tenant) => tenant.id },
];

export const poolColumns: readonly Column<HostPool>[] = [
  { head: "NAME", cell: (pool) => pool.name },
  { head: "VERSION", cell: (pool) => String(pool.version) },
  { head: "OVERCOMMIT %", cell: (pool) => percents(pool.overcommitPercent) },
  { head: "HIGH WATER %", cell: (pool) => percents(pool.highWaterPercent) },
];

function percents(values: HostPool["overcommitPercent"]): string {
  return `cpu ${values.cpuMillis}, memory ${values.memoryBytes}, volume ${values.volumeBytes}, rootfs ${values.rootfsBytes}`;
}
