import { describe, expect, test } from "vitest";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { compareTemplates, describeRestart } from "./compare-templates.ts";

const template: SetTemplate = {
  cpuMillis: 1_000,
  memoryBytes: 2 ** 30,
  rootfsBytes: 2 ** 30,
  volume: null,
  sysctls: {},
  networks: [{ network: "default" }],
  containers: ["app", "trace"].map((name, index) => ({
    index,
    name,
    image: `${name}:1`,
    options: {
      cpuPercent: 50,
      memoryPercent: 50,
      env: {},
      restart: { on: "always" as const },
      stopTimeoutSeconds: 10,
    },
  })),
};

function change(changes: Partial<SetTemplate>): SetTemplate {
  return { ...template, ...changes };
}

/** The template with other options of the container "app", or of both. */
function changeApp(
  changes: Partial<Omit<SetTemplate["containers"][number], "options">>,
  options: Record<string, unknown> = {},
): SetTemplate {
  return change({
    containers: template.containers.map((container) =>
      container.name === "app"
        ? { ...container, ...changes, options: { ...container.options, ...options } }
        : container,
    ),
  });
}

describe("two templates", () => {
  test("do not differ if only the order of members does", () => {
    const reordered = changeApp({}, { env: { A: "1", B: "2" } });
    const other = changeApp({}, { env: { B: "2", A: "1" }, user: undefined });
    expect(compareTemplates(reordered, other)).toMatchObject({
      level: "none",
      containers: [],
      servesDuringUpdate: true,
    });
  });

  test("differ in one container if it has another image", () => {
    expect(compareTemplates(template, changeApp({ image: "app:2" }))).toEqual({
      level: "containers",
      containers: ["app"],
      changesImages: true,
      setMembers: [],
      servesDuringUpdate: false,
      needsNewSet: null,
    });
  });

  test("differ in no image if a container has another environment", () => {
    expect(compareTemplates(template, changeApp({}, { env: { A: "1" } }))).toMatchObject({
      level: "containers",
      containers: ["app"],
      changesImages: false,
    });
  });

  test("differ live in all that agents apply to running containers", () => {
    const lives = [
      changeApp({}, { restart: { on: "never" } }),
      changeApp({}, { stopTimeoutSeconds: 30 }),
      changeApp({}, { cpuPercent: 10 }),
      changeApp({}, { hooks: {} }),
      change({ io: { readOpsPerSecond: 100 } }),
      change({ cpuMillis: 2_000 }),
      change({ ports: [{ name: "http", port: 80, protocol: "tcp" }] }),
    ];
    for (const live of lives) {
      expect(compareTemplates(template, live)).toMatchObject({
        level: "live",
        containers: [],
        needsNewSet: null,
        servesDuringUpdate: true,
      });
    }
  });

  test("differ at the set level in all that infra has", () => {
    const members: [string, Partial<SetTemplate>][] = [
      ["sysctls", { sysctls: { "net.core.somaxconn": "10" } }],
      ["shmBytes", { shmBytes: 2 ** 20 }],
      ["extraHosts", { extraHosts: { db: "10.0.0.1" } }],
    ];
    for (const [member, changes] of members) {
      expect(compareTemplates(template, change(changes))).toMatchObject({
        level: "set-level",
        containers: ["app", "trace"],
        setMembers: [member],
        servesDuringUpdate: false,
        needsNewSet: null,
      });
    }
  });

  test("differ at the set level if they have other containers or indexes", () => {
    const [app] = template.containers;
    const removed = change({ containers: app ? [app] : [] });
    for (const other of [removed, changeApp({ index: 5 })]) {
      expect(compareTemplates(template, other)).toMatchObject({
        level: "set-level",
        setMembers: ["containers"],
      });
    }
    expect(compareTemplates(removed, template).changesImages).toBe(true);
    expect(compareTemplates(template, removed).changesImages).toBe(false);
  });

  test("need another set for other networks, published ports or mount paths", () => {
    const ports = (hostPort: number) =>
      change({ ports: [{ name: "http", port: 80, protocol: "tcp", publish: { hostPort } }] });
    const volume = (mountPath: string, sizeBytes = 2 ** 30) =>
      change({ volume: { sizeBytes, mountPath } });
    const needs = (from: SetTemplate, to: SetTemplate) => {
      const { level, needsNewSet } = compareTemplates(from, to);
      return [level, needsNewSet];
    };
    expect(needs(template, change({ networks: [{ network: "back" }] }))).toEqual([
      "set-level",
      "networks",
    ]);
    expect(needs(ports(80), ports(81))).toEqual(["set-level", "ports"]);
    expect(needs(template, ports(80))).toEqual(["set-level", "ports"]);
    expect(needs(volume("/a"), volume("/b"))).toEqual(["set-level", "volume"]);
    expect(needs(template, volume("/a"))).toEqual(["set-level", "volume"]);
    expect(needs(volume("/a"), volume("/a", 2 ** 31))).toEqual(["live", null]);
  });
});

describe("a set serves during an update", () => {
  const optional = (image: string) => changeApp({ image }, { serving: "optional" });

  test("only if each container to replace is optional in both templates", () => {
    const serves = (from: SetTemplate, to: SetTemplate) =>
      compareTemplates(from, to).servesDuringUpdate;
    expect(serves(optional("app:1"), optional("app:2"))).toBe(true);
    expect(serves(changeApp({ image: "app:1" }), optional("app:2"))).toBe(false);
    expect(serves(optional("app:1"), changeApp({ image: "app:2" }))).toBe(false);
    const both = { ...optional("app:2"), sysctls: { "net.core.somaxconn": "10" } };
    expect(serves(optional("app:1"), both)).toBe(false);
  });

  test("an option of the update policy alone restarts nothing", () => {
    expect(compareTemplates(template, changeApp({}, { serving: "optional" })).level).toBe("live");
  });
});

test("a restart replaces all containers with the same images", () => {
  expect(describeRestart(template)).toEqual({
    level: "set-level",
    containers: ["app", "trace"],
    changesImages: false,
    setMembers: [],
    servesDuringUpdate: false,
    needsNewSet: null,
  });
});
