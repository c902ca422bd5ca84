import { describe, expect, it } from "vitest";
import { setTemplateInput, setTemplateSchema } from "./set-template.ts";

function parse(options: object = {}, template: object = {}) {
  return setTemplateInput.safeParse({
    cpu: 1,
    memory: "64Mi",
    containers: [
      { index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100, ...options } },
    ],
    ...template,
  });
}

describe("options of containers", () => {
  it("are absent unless used, so that older agents accept the template", () => {
    const { data } = parse();
    expect(Object.keys(data ?? {}).sort()).toEqual([
      "containers",
      "cpuMillis",
      "memoryBytes",
      "networks",
      "rootfsBytes",
      "sysctls",
      "volume",
    ]);
    expect(Object.keys(data?.containers[0]?.options ?? {}).sort()).toEqual([
      "cpuPercent",
      "env",
      "memoryPercent",
      "restart",
      "stopTimeoutSeconds",
    ]);
  });

  it("come out with bytes, as agents take them", () => {
    const { data } = parse(
      {
        init: false,
        readOnlyRootfs: true,
        capAdd: ["CHOWN"],
        capDrop: ["ALL"],
        ulimits: { nofile: { soft: 10, hard: 20 }, core: { soft: 0, hard: -1 } },
        tmpfs: [{ mountPath: "/run", size: "1Mi" }],
        logging: { maxSize: "1Mi" },
      },
      { shm: "8Mi", extraHosts: { "db.example": "10.0.0.1" } },
    );
    expect(data).toMatchObject({ shmBytes: 8 * 2 ** 20, extraHosts: { "db.example": "10.0.0.1" } });
    expect(data?.containers[0]?.options).toMatchObject({
      tmpfs: [{ mountPath: "/run", sizeBytes: 2 ** 20 }],
      logging: { driver: "json-file", maxSizeBytes: 2 ** 20, maxFiles: 2 },
    });
    expect(setTemplateSchema.parse(data)).toEqual(data);
  });

  it.each([
    ["capabilities with their prefix", { capAdd: ["CAP_CHOWN"] }],
    ["all capabilities", { capAdd: ["ALL"] }],
    ["a realtime priority", { ulimits: { rtprio: { soft: 1, hard: 1 } } }],
    ["a soft limit above the hard one", { ulimits: { nproc: { soft: 2, hard: 1 } } }],
    ["an unlimited soft limit below a hard one", { ulimits: { nproc: { soft: -1, hard: 1 } } }],
    ["unlimited open files", { ulimits: { nofile: { soft: 1, hard: -1 } } }],
    ["a file system without a size", { tmpfs: [{ mountPath: "/run" }] }],
    ["a file system over /proc", { tmpfs: [{ mountPath: "/proc/x", size: "1Mi" }] }],
    ["logs that fill a disk", { logging: { maxSize: "100Mi", maxFiles: 20 } }],
    ["a log driver that logs elsewhere", { logging: { driver: "none" } }],
  ])("are refused with %s", (_what, options) => {
    expect(parse(options).error?.issues[0]?.path.slice(0, 3)).toEqual(["containers", 0, "options"]);
  });

  it("mount each path once", () => {
    const run = { mountPath: "/run", size: "1Mi" };
    const { error } = parse({ tmpfs: [run, run] });
    expect(error?.issues[0]).toMatchObject({
      message: '"/run" is mounted twice: choose another path',
    });
    const volume = { size: "16Mi", mountPath: "/run" };
    expect(parse({ tmpfs: [run] }, { volume }).error?.issues[0]?.path.slice(-3)).toEqual([
      "tmpfs",
      0,
      "mountPath",
    ]);
  });

  it.each([
    ["more than the memory in /dev/shm", { shm: "65Mi" }],
    ["a host without a fixed address", { extraHosts: { "db.example": "host-gateway" } }],
    ["a host name with a colon", { extraHosts: { "db:1": "10.0.0.1" } }],
  ])("are refused with %s", (_what, template) => {
    expect(parse({}, template).success).toBe(false);
  });
});

describe("the stop and the start of containers", () => {
  const command = ["/bin/leave"];

  it("have hooks and a drain time, which come out as agents take them", () => {
    const hooks = { preStop: { exec: { command } }, postStart: { http: { port: 80 } } };
    const { data } = parse({ hooks }, { drainSeconds: 0 });
    expect(data?.drainSeconds).toBe(0);
    expect(data?.containers[0]?.options.hooks).toEqual({
      preStop: { exec: { command }, timeoutSeconds: 10 },
      postStart: { http: { port: 80, path: "/" }, timeoutSeconds: 10 },
    });
    expect(setTemplateSchema.parse(data)).toEqual(data);
  });

  it.each([
    ["no hook", {}],
    ["a hook that does nothing", { preStop: {} }],
    ["a hook that does two things", { preStop: { exec: { command }, http: { port: 80 } } }],
    ["a connection, which shows nothing", { postStart: { tcp: { port: 80 } } }],
    ["a hook without an end", { preStop: { exec: { command }, timeoutSeconds: 601 } }],
  ])("are refused with %s", (_what, hooks) => {
    expect(parse({ hooks }).error?.issues[0]?.path.slice(2, 4)).toEqual(["options", "hooks"]);
  });

  it("last ten minutes at most", () => {
    expect(parse({}, { drainSeconds: 601 }).error?.issues[0]?.path).toEqual(["drainSeconds"]);
  });
});

it("a set serves with at least one of its containers", () => {
  const optional = {
    index: 0,
    image: "trace:1",
    options: { cpu: 10, memory: 10, serving: "optional" },
  };
  const parseWith = (serving?: string) =>
    parse(
      {},
      {
        containers: [
          { ...optional, name: "trace" },
          {
            ...optional,
            name: "app",
            options: { cpu: 90, memory: 90, ...(serving && { serving }) },
          },
        ],
      },
    );
  expect(parseWith().data?.containers[0]?.options.serving).toBe("optional");
  expect(parseWith("required").success).toBe(true);
  expect(parseWith("optional").error?.issues).toMatchObject([
    { message: "expected at least one container without `serving: optional`" },
  ]);
});

it("a template sets no sysctl that older kernels apply to the whole host", () => {
  const { error } = parse({}, { sysctls: { "net.netfilter.nf_conntrack_max": "1" } });
  expect(error?.issues[0]).toMatchObject({ path: ["sysctls", "net.netfilter.nf_conntrack_max"] });
  expect(parse({}, { sysctls: { "net.core.somaxconn": "1024" } }).success).toBe(true);
});

describe("ports of a template", () => {
  it("have the protocol tcp by default, and come out as agents take them", () => {
    const { data } = parse({}, { ports: [{ name: "http", port: 80 }] });
    expect(data?.ports).toEqual([{ name: "http", port: 80, protocol: "tcp" }]);
    expect(setTemplateSchema.parse(data)).toEqual(data);
  });

  it("may be published, at any host port or at a fixed one", () => {
    const ports = [
      { name: "http", port: 80, publish: true },
      { name: "https", port: 443, publish: { hostPort: 443 } },
    ];
    const { data } = parse({}, { ports });
    expect(data?.ports).toMatchObject(ports);
    expect(setTemplateSchema.parse(data)).toEqual(data);
    for (const publish of [false, {}, { hostPort: 0 }, { hostPort: 80, address: "10.0.0.1" }])
      expect(parse({}, { ports: [{ name: "http", port: 80, publish }] }).success).toBe(false);
  });

  it("have a host port of their own each, and at most eight are published", () => {
    const publish = { hostPort: 80 };
    const twice = [
      { name: "http", port: 80, publish },
      { name: "web", port: 81, publish },
    ];
    expect(parse({}, { ports: twice }).error?.issues[0]?.path).toEqual([
      "ports",
      1,
      "publish",
      "hostPort",
    ]);
    const many = Array.from({ length: 9 }, (_, at) => ({
      name: `p${at}`,
      port: at + 1,
      publish: true,
    }));
    expect(parse({}, { ports: many }).error?.issues[0]?.path).toEqual(["ports"]);
    expect(parse({}, { ports: many.slice(1) }).success).toBe(true);
  });

  it("may repeat a port with another protocol", () => {
    const ports = [
      { name: "dns", port: 53, protocol: "udp" },
      { name: "dns-tcp", port: 53 },
    ];
    expect(parse({}, { ports }).success).toBe(true);
  });

  it.each([
    [
      "two ports of one name",
      [
        ["http", 80],
        ["http", 81],
      ],
      ["ports", 1, "name"],
    ],
    [
      "one port with two names",
      [
        ["http", 80],
        ["web", 80],
      ],
      ["ports", 1, "port"],
    ],
    ["a name that SRV records cannot have", [["metrics-of-menu-web", 80]], ["ports", 0, "name"]],
    ["a name without a letter", [["80", 80]], ["ports", 0, "name"]],
    ["port 0", [["http", 0]], ["ports", 0, "port"]],
    ["an empty list", [], ["ports"]],
    ["more than 16 ports", Array.from({ length: 17 }, (_, at) => [`p${at}`, at + 1]), ["ports"]],
  ])("are refused with %s", (_what, pairs, path) => {
    const ports = pairs.map(([name, port]) => ({ name, port }));
    expect(parse({}, { ports }).error?.issues[0]?.path).toEqual(path);
  });
});
