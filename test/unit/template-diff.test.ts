import { describe, expect, test } from "vitest";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import { stopSignalSource } from "../../src/agent/model/outdated.ts";
import { isContainerOutdated, specHash } from "../../src/agent/model/spec-hash.ts";
import { type SetTemplate, setTemplateSchema } from "../../src/contracts/api/set-template.ts";
import { compareTemplates } from "../../src/scheduler/rollout/compare-templates.ts";
import { localSet } from "../support/agent/local-set.ts";

/**
 * The planner of rollouts and the agent decide separately which containers a change replaces. This
 * test compares them for each member of a template and each option of a container. A new member or
 * option needs a sample here.
 */

const base = localSet({ names: ["app", "trace"] });

/** A changed value of each option. */
const options: Readonly<Record<string, unknown>> = {
  cpuPercent: 7,
  memoryPercent: 7,
  env: { A: "1" },
  command: ["/bin/other"],
  args: ["other"],
  workingDir: "/other",
  user: "other",
  health: {
    tcp: { port: 80 },
    intervalSeconds: 2,
    timeoutSeconds: 2,
    failureThreshold: 3,
    startPeriodSeconds: 60,
  },
  restart: { on: "never" },
  stopSignal: "SIGINT",
  stopTimeoutSeconds: 99,
  init: true,
  readOnlyRootfs: true,
  capAdd: ["SYS_NICE"],
  capDrop: ["ALL"],
  ulimits: { core: { soft: 0, hard: 0 } },
  tmpfs: [{ mountPath: "/tmp", sizeBytes: 2 ** 20 }],
  logging: { driver: "local", maxFiles: 2, maxSizeBytes: 2 ** 20 },
  hooks: { preStop: { exec: { command: ["/bin/true"] }, timeoutSeconds: 10 } },
  serving: "optional",
};

/** A changed value of each member, except containers. */
const members: Readonly<Record<string, unknown>> = {
  cpuMillis: 123,
  memoryBytes: 123 * 2 ** 20,
  rootfsBytes: 123 * 2 ** 20,
  io: { readOpsPerSecond: 100 },
  volume: { sizeBytes: 2 ** 30, mountPath: "/other" },
  shmBytes: 2 ** 20,
  extraHosts: { db: "10.0.0.1" },
  sysctls: { "net.core.somaxconn": "10" },
  networks: [{ network: "other" }],
  ports: [{ name: "http", port: 80, protocol: "tcp", publish: { hostPort: 8_080 } }],
  drainSeconds: 30,
};

/**
 * Members that infra has from its creation, and that its hash does not cover. An addition to the
 * hash would restart all sets of a fleet during an upgrade. Of published ports, the hash covers the
 * host ports that the set was assigned.
 */
const notHashed = new Set(["shmBytes", "extraHosts", "ports"]);

function changeOption(option: string, value: unknown): LocalSetSpec {
  const containers = base.template.containers.map((container) =>
    container.name === "app"
      ? { ...container, options: { ...container.options, [option]: value } }
      : container,
  );
  return { ...base, template: { ...base.template, containers } };
}

/** The containers that the agent replaces, among them infra. */
function listOutdated(from: LocalSetSpec, to: LocalSetSpec): string[] {
  return ["infra", ...from.template.containers.map(({ name }) => name)].filter((name) => {
    const container = from.template.containers.find((candidate) => candidate.name === name);
    return isContainerOutdated(to, name, {
      specHash: specHash(from, name),
      restartGeneration: from.restartGeneration,
      ...(container ? { stopSignalSource: stopSignalSource(container) } : {}),
    });
  });
}

describe("the planner and the agent agree", () => {
  const container = setTemplateSchema.shape.containers.element.shape;

  test.each(Object.keys(container.options.shape))("about the option %s", (option) => {
    expect(Object.keys(options)).toContain(option);
    const changed = changeOption(option, options[option]);
    const outdated = listOutdated(base, changed);
    const diff = compareTemplates(base.template, changed.template);
    expect(diff.containers).toEqual(outdated);
    expect(diff.level).toBe(outdated.length > 0 ? "containers" : "live");
  });

  test("about the default stop signal, which an image may override", () => {
    const changed = changeOption("stopSignal", "SIGTERM");
    const diff = compareTemplates(base.template, changed.template);
    expect(diff.containers).toEqual(listOutdated(base, changed));
  });

  const names = Object.keys(setTemplateSchema.shape).filter((name) => name !== "containers");
  test.each(names)("about the member %s", (member) => {
    expect(Object.keys(members)).toContain(member);
    const template: SetTemplate = { ...base.template, [member]: members[member] };
    const isInfraOutdated = listOutdated(base, { ...base, template }).includes("infra");
    const { level } = compareTemplates(base.template, template);
    expect(level).toBe(isInfraOutdated || notHashed.has(member) ? "set-level" : "live");
    if (notHashed.has(member)) expect(isInfraOutdated).toBe(false);
  });

  test("about the image and the index of a container", () => {
    const change = (changes: object) => ({
      ...base,
      template: {
        ...base.template,
        containers: base.template.containers.map((other) =>
          other.name === "app" ? { ...other, ...changes } : other,
        ),
      },
    });
    const image = change({ image: "other:1" });
    expect(listOutdated(base, image)).toEqual(["app"]);
    expect(compareTemplates(base.template, image.template).containers).toEqual(["app"]);
    // The order of starts is that of the whole set.
    expect(compareTemplates(base.template, change({ index: 77 }).template).level).toBe("set-level");
  });
});
