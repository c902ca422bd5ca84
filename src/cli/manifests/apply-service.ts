import { isDeepStrictEqual } from "node:util";
import {
  type CreateService,
  defaultHostLostPolicy,
  type Service,
  type ServiceChange,
} from "../../contracts/api/services.ts";
import type { ApiClient } from "../api/api-client.ts";
import { CliError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { servicePath } from "../api/lookup.ts";
import { orderChanges } from "./order-changes.ts";
import type { Manifest } from "./read-manifests.ts";

export interface Applied {
  action: "created" | "changed" | "unchanged";
  /** The changed members, such as "replicas". Empty for a created service. */
  changed: string[];
  effects: string[];
  service: Service;
}

const CHANGES_RACED_MAX = 5;
/** Members that PATCH changes. A member that the manifest omits gets its default. */
const patchable = [
  "priority",
  "template",
  "placement",
  "onHostLost",
  "autoscale",
  "disruption",
  "gatewayPorts",
] as const;
type Patchable = (typeof patchable)[number];

/**
 * Creates the service of a manifest, or changes the members that differ. The replicas stay when the
 * manifest omits them. After a conflict with a concurrent change it reads and compares again, at
 * most five times.
 */
export async function applyService(
  api: ApiClient,
  manifest: Manifest,
  { adoptsForNewSets = false }: { adoptsForNewSets?: boolean } = {},
): Promise<Applied> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await applyOnce(api, manifest, adoptsForNewSets);
    } catch (error) {
      const raced =
        error instanceof CliError &&
        (error.code === "generation-mismatch" || error.code === "already-exists");
      if (!raced || attempt === CHANGES_RACED_MAX) throw error;
    }
  }
}

async function applyOnce(
  api: ApiClient,
  manifest: Manifest,
  adoptsForNewSets: boolean,
): Promise<Applied> {
  const path = servicePath(manifest.meant.name);
  const service = await api.find<Service>(path);
  if (!service) {
    const change = await api.request<ServiceChange>("POST", "/v1/services", {
      body: manifest.written,
    });
    return { action: "created", changed: [], ...change };
  }
  if (service.deleting) {
    throw new CliError(`Service ${service.name} is being deleted.`, {
      exitCode: exitCodes.conflict,
      hints: [`Run \`berth wait service ${service.name} --for deleted\`, then apply again.`],
    });
  }
  const steps = planSteps(service, manifest);
  if (adoptsForNewSets) adoptTarget(service, steps);
  let { generation } = service;
  let latest = service;
  const effects: string[] = [];
  for (const step of steps) {
    const change = await api.request<ServiceChange>(step.method, path + step.path, {
      body: step.body,
      generation,
    });
    ({ service: latest } = change);
    ({ generation } = latest);
    effects.push(...change.effects);
  }
  const changed: string[] = differingMembers(service, manifest.meant);
  if (wantsOtherReplicas(service, manifest)) changed.push("replicas");
  return {
    action: steps.length === 0 ? "unchanged" : "changed",
    changed,
    effects,
    service: latest,
  };
}

/** Adopts the target revision with the change that creates it, or with a change of its own. */
function adoptTarget(service: Service, steps: Step[]): void {
  const patch = steps.findLast((step) => step.method === "PATCH");
  if (patch) patch.body = { ...patch.body, adopt: "new-sets" };
  else if (service.targetRevision > service.revision)
    steps.push({ method: "PATCH", path: "", body: { adopt: "new-sets" } });
}

interface Step {
  method: "PATCH" | "POST";
  path: string;
  body: Record<string, unknown>;
}

/** Plans the requests in the order of orderChanges. */
function planSteps(service: Service, manifest: Manifest): Step[] {
  const { meant, written } = manifest;
  const members = differingMembers(service, meant);
  const patch: Step | undefined =
    members.length === 0
      ? undefined
      : { method: "PATCH", path: "", body: pick(meant, written, members) };
  const scale: Step | undefined = wantsOtherReplicas(service, manifest)
    ? { method: "POST", path: "/scale", body: { replicas: meant.replicas } }
    : undefined;
  if (!patch) return scale ? [scale] : [];
  if (!scale) return [patch];
  return orderChanges(service, meant).map((change, index, { length }) => {
    if ("replicas" in change) return scale;
    return length === 3 && index === 0 ? { method: "PATCH", path: "", body: change } : patch;
  });
}

function wantsOtherReplicas(service: Service, { meant, written }: Manifest): boolean {
  return written["replicas"] !== undefined && meant.replicas !== service.replicas;
}

function differingMembers(service: Service, meant: CreateService): Patchable[] {
  return patchable.filter(
    (member) => !isDeepStrictEqual(plain(service[member]), plain(wantedMember(meant, member))),
  );
}

/** Picks members as written, or the default of an omitted one. */
function pick(
  meant: CreateService,
  written: Record<string, unknown>,
  members: readonly Patchable[],
): Record<string, unknown> {
  return Object.fromEntries(
    members.map((member) => [member, written[member] ?? wantedMember(meant, member)]),
  );
}

/** The wanted value of a member. The default of onHostLost depends on the template. */
function wantedMember(meant: CreateService, member: Patchable): unknown {
  return member === "onHostLost"
    ? (meant.onHostLost ?? defaultHostLostPolicy(meant.template))
    : meant[member];
}

/** Copies a value through JSON, which omits undefined members. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null)) as unknown;
}
