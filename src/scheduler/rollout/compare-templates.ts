import type { ContainerTemplate, SetTemplate } from "../../contracts/api/set-template.ts";

/** How two templates of one service differ, and what a running set needs to change. */
export interface TemplateDiff {
  /**
   * none: nothing differs. live: agents apply each difference without a restart. containers: some
   * containers need to be replaced. set-level: infra, and so each container, needs to be replaced.
   */
  level: "none" | "live" | "containers" | "set-level";
  /** Containers that have to be replaced, in the order of their names. */
  containers: readonly string[];
  /** Some of these containers get a different image. */
  changesImages: boolean;
  /** Members of the template that differ at the set level, in order; none at other levels. */
  setMembers: readonly string[];
  /** Each container to replace is optional: the set serves without it. True if there is none. */
  servesDuringUpdate: boolean;
  /** Null, or the member that no running set can change. Only another set can have it. */
  needsNewSet: "networks" | "ports" | "volume" | null;
}

/**
 * Members of a template that agents, or the control plane, apply to a running set. Limits belong to
 * it: agents change them in place. The size of a set is that of its service, not of its revision.
 */
const liveMembers: ReadonlySet<string> = new Set([
  "cpuMillis",
  "memoryBytes",
  "rootfsBytes",
  "io",
  "drainSeconds",
]);

/** Options that agents apply without a new container; see `specHash` of the agent. */
const liveOptions: ReadonlySet<string> = new Set([
  "cpuPercent",
  "memoryPercent",
  "health",
  "restart",
  "stopTimeoutSeconds",
  "hooks",
  "serving",
]);

/**
 * Compares two templates of a service, in either order. Pure. The order of members of objects has
 * no meaning, that of lists has one.
 *
 * `shmBytes` and `extraHosts` are at the set level, although no hash of the agent covers them. An
 * update in place would report success and change nothing. An unknown member counts as a change at
 * the set level, and an unknown option as one of the container. That restarts too much, never too
 * little.
 */
export function compareTemplates(from: SetTemplate, to: SetTemplate): TemplateDiff {
  const members = listDifferent(from, to).filter((name) => name !== "containers");
  const structure = compareStructure(from, to);
  const volume = volumeDiffers(from, to);
  const ports = portsDiffer(from, to);
  const setMembers = members.filter(
    (name) =>
      !liveMembers.has(name) && !(name === "volume" && !volume) && !(name === "ports" && !ports),
  );
  if (structure) setMembers.push("containers");
  const changed = structure
    ? []
    : to.containers.filter((container) => {
        const before = from.containers.find(({ name }) => name === container.name);
        return before !== undefined && needsReplacement(before, container);
      });
  const isLive =
    members.length > 0 || canonicalJson(from.containers) !== canonicalJson(to.containers);
  const level =
    setMembers.length > 0
      ? "set-level"
      : changed.length > 0
        ? "containers"
        : isLive
          ? "live"
          : "none";
  return {
    level,
    containers: (level === "set-level" ? to.containers : changed).map(({ name }) => name).sort(),
    changesImages: hasNewImage(from, to),
    setMembers: setMembers.sort(),
    servesDuringUpdate:
      level !== "set-level" &&
      changed.every(({ name }) => isOptional(from, name) && isOptional(to, name)),
    needsNewSet: members.includes("networks")
      ? "networks"
      : ports
        ? "ports"
        : volume
          ? "volume"
          : null,
  };
}

/** The change of a restart: each container of the template is replaced, with the same image. */
export function describeRestart(template: SetTemplate): TemplateDiff {
  return {
    level: "set-level",
    containers: template.containers.map(({ name }) => name).sort(),
    changesImages: false,
    setMembers: [],
    servesDuringUpdate: false,
    needsNewSet: null,
  };
}

/** Whether containers were added, removed or moved to another index. */
function compareStructure(from: SetTemplate, to: SetTemplate): boolean {
  const describe = ({ containers }: SetTemplate) =>
    containers
      .map(({ name, index }) => `${name} ${index}`)
      .sort()
      .join();
  return describe(from) !== describe(to);
}

/** A volume grows online, and its size is that of the service. */
function volumeDiffers({ volume: from }: SetTemplate, { volume: to }: SetTemplate): boolean {
  return from?.mountPath !== to?.mountPath;
}

/** Only published ports concern a host. Names of other ports only appear in endpoints. */
function portsDiffer(from: SetTemplate, to: SetTemplate): boolean {
  const published = ({ ports }: SetTemplate) =>
    (ports ?? [])
      .filter(({ publish }) => publish !== undefined)
      .map(({ port, protocol, publish }) => canonicalJson({ port, protocol, publish }))
      .sort()
      .join();
  return published(from) !== published(to);
}

function needsReplacement(from: ContainerTemplate, to: ContainerTemplate): boolean {
  return (
    from.image !== to.image ||
    listDifferent(from.options, to.options).some((option) => !liveOptions.has(option))
  );
}

function hasNewImage(from: SetTemplate, to: SetTemplate): boolean {
  const images = new Set(from.containers.map(({ image }) => image));
  return to.containers.some(({ image }) => !images.has(image));
}

function isOptional({ containers }: SetTemplate, name: string): boolean {
  return containers.find((container) => container.name === name)?.options.serving === "optional";
}

/** The names of members whose values differ. An undefined member equals an absent one. */
function listDifferent(from: object, to: object): string[] {
  const before = new Map<string, unknown>(Object.entries(from));
  const after = new Map<string, unknown>(Object.entries(to));
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((name) => canonicalJson(before.get(name)) !== canonicalJson(after.get(name)))
    .sort();
}

/** JSON with sorted keys and without undefined members. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    member !== null && typeof member === "object" && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}
