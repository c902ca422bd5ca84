import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { readManifests } from "../../src/cli/manifests/read-manifests.ts";
import { loadApiConfig } from "../../src/config/api.ts";
import { loadHostAgentConfig } from "../../src/config/host-agent.ts";
import { loadJobWorkerConfig } from "../../src/config/job-worker.ts";
import { loadMigrateConfig } from "../../src/config/migrate.ts";
import { createHookBody } from "../../src/contracts/api/autoscaling.ts";
import { createRulesBody } from "../../src/contracts/api/rules.ts";
import { createServiceBody } from "../../src/contracts/api/services.ts";

/** The checks of examples/ and of the runbooks that need no service and no Docker. */
const root = fileURLToPath(new URL("../..", import.meta.url));
const readText = (file: string) => readFileSync(path.join(root, file), "utf8");
const listFiles = (folder: string, ending: string) =>
  readdirSync(path.join(root, folder))
    .filter((name) => name.endsWith(ending))
    .map((name) => `${folder}/${name}`);

describe("the example manifests", () => {
  it.each(listFiles("examples/manifests", ".yaml"))(
    "%s describes services that the API accepts",
    async (file) => {
      const manifests = await readManifests(path.join(root, file), process.stdin);
      expect(manifests.map(({ meant }) => meant.name)).not.toEqual([]);
    },
  );

  it("keep a set whose volume holds data on its lost host", async () => {
    const file = path.join(root, "examples/manifests/database.yaml");
    const [database] = await readManifests(file, process.stdin);
    expect(database?.meant.onHostLost).toBe("wait");
  });
});

describe("the example rules", () => {
  const { rules } = createRulesBody.parse({ rules: parse(readText("examples/rules.yaml")) });

  it("name services and a port of the example manifest, in its network", async () => {
    const file = path.join(root, "examples/manifests/two-services.yaml");
    const manifests = await readManifests(file, process.stdin);
    const services = manifests.map(({ meant }) => meant);
    const names = services.map(({ name }) => name);
    expect(names).toEqual(["menu-api", "menu-web"]);
    for (const { service, peer, network, ports } of rules) {
      expect(names).toContain(service);
      if (peer.service !== undefined) expect(names).toContain(peer.service);
      const { template } = services.find(({ name }) => name === service) ?? {};
      expect(template?.networks).toEqual([{ network }]);
      for (const { first } of ports)
        expect(template?.ports?.map(({ port }) => port)).toContain(first);
    }
  });

  it("deny by default, and permit one service at a higher priority", () => {
    const [closed, open] = rules;
    expect(closed).toMatchObject({ action: "deny", peer: { any: true } });
    expect(open).toMatchObject({ action: "allow", peer: { service: "menu-web" } });
    expect(open?.priority).toBeGreaterThan(closed?.priority ?? Infinity);
  });
});

describe("the example requests", () => {
  const script = readText("examples/http/scale-service.sh");

  it("call operations of the API with bodies that it accepts", () => {
    const { paths } = JSON.parse(readText("openapi.json")) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const calls = [...script.matchAll(/^berth_call (?<method>[A-Z]+) "?(?<target>[^\s"?]+)/gm)];
    const operations = calls.map(({ groups = {} }) => {
      const template = groups["target"]?.replace("menu-web", "{name}") ?? "";
      return paths[template]?.[groups["method"]?.toLowerCase() ?? ""];
    });
    expect(operations).toHaveLength(4);
    expect(operations).not.toContain(undefined);
    const body = /--data '(?<body>\{\n.+?\n\})'/s.exec(script)?.groups?.["body"] ?? "";
    expect(createServiceBody.parse(JSON.parse(body)).name).toBe("menu-web");
    expect(
      createHookBody.parse(JSON.parse(readText("examples/http/hook.json"))).rules,
    ).toHaveLength(2);
  });

  it("are scripts without syntax errors", () => {
    for (const file of listFiles("examples/http", ".sh"))
      expect(() => execFileSync("bash", ["-n", path.join(root, file)]), file).not.toThrow();
  });
});

describe("the settings of three machines", () => {
  it.each([
    ["api", loadApiConfig],
    ["job-worker", loadJobWorkerConfig],
    ["migrate", loadMigrateConfig],
    ["host-agent", loadHostAgentConfig],
  ] as const)("are accepted by %s", (name, load) => {
    const lines = readText(`examples/three-machines/${name}.env`).split("\n");
    const pairs = lines.flatMap((line) => {
      const [, key, value] = /^([A-Z_]+)=(.*)$/.exec(line) ?? [];
      return key === undefined ? [] : [[key, value] as const];
    });
    expect(pairs.length).toBeGreaterThan(0);
    expect(() => load(Object.fromEntries(pairs))).not.toThrow();
  });
});

describe("the examples for Prometheus and Alertmanager", () => {
  const rules = (
    parse(readText("examples/prometheus/berth-alerts.yml")) as RuleFile
  ).groups.flatMap((group) => group.rules);

  it("alert on metrics that a process exports, and name a runbook that exists", () => {
    const exported = readExportedMetrics();
    for (const { alert, expr, annotations } of rules) {
      expect(findMetrics(expr, exported).unknown, alert).toEqual([]);
      expect(findMetrics(expr, exported).known, alert).not.toEqual([]);
      expect(existsSync(path.join(root, annotations["runbook"] ?? "missing")), alert).toBe(true);
    }
  });

  it("read Berth's own metrics only where Berth exports them", () => {
    const rulesOfUsers = readText("examples/prometheus/alerts.yml");
    expect(findMetrics(rulesOfUsers, readExportedMetrics()).unknown).toEqual([]);
  });

  it("scrape the API and the job worker with a token, and load all rules", () => {
    const prometheus = parse(readText("examples/prometheus/prometheus.yml")) as {
      rule_files: string[];
      scrape_configs: {
        authorization?: { type: string; credentials_file: string };
        static_configs: { targets: string[] }[];
      }[];
    };
    expect(prometheus.rule_files).toEqual(
      readdirSync(path.join(root, "examples/prometheus")).filter((name) =>
        name.endsWith("alerts.yml"),
      ),
    );
    const { scrape_configs: jobs } = prometheus;
    const targets = jobs.flatMap((job) => job.static_configs.flatMap((one) => one.targets));
    expect(targets).toEqual(["berth.internal:7460", "berth.internal:7461"]);
    for (const { authorization } of jobs) expect(authorization?.type).toBe("Bearer");
  });

  it("are accepted by the tools of Prometheus and Alertmanager where these are installed", () => {
    const checks = [
      ["/usr/bin/amtool", ["check-config", "examples/alertmanager/alertmanager.yml"]],
      ["/usr/bin/promtool", ["check", "rules", ...listFiles("examples/prometheus", "alerts.yml")]],
    ] as const;
    for (const [tool, argv] of checks) {
      if (!existsSync(tool)) continue;
      expect(() => execFileSync(tool, [...argv], { cwd: root, stdio: "pipe" })).not.toThrow();
    }
  });
});

describe("the runbooks", () => {
  it("name only metrics that a process exports", () => {
    const exported = readExportedMetrics();
    for (const file of listFiles("docs/operations", ".md"))
      expect(findMetrics(readText(file), exported).unknown, file).toEqual([]);
  });
});

interface RuleFile {
  groups: {
    rules: {
      alert: string;
      expr: string;
      annotations: Record<string, string>;
    }[];
  }[];
}

function readExportedMetrics(): Set<string> {
  const source = readText("src/main/compose/metrics.ts");
  const names = source.matchAll(/name: "(?<name>berth_\w+)"/g);
  return new Set([...names].flatMap(({ groups }) => groups?.["name"] ?? []));
}

/** The names of Berth's metrics in a text; a histogram also has `_count`, `_sum` and `_bucket`. */
function findMetrics(text: string, exported: ReadonlySet<string>) {
  const names = [...text.matchAll(/\bberth_[a-z_]+\b/g)].map(([name]) =>
    name.replace(/_(?:count|sum|bucket)$/, ""),
  );
  return {
    known: names.filter((name) => exported.has(name)),
    unknown: names.filter((name) => !exported.has(name)),
  };
}
