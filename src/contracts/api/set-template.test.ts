import { describe, expect, it } from "vitest";
import { setTemplateInput, setTemplateSchema } from "./set-template.ts";

const options = { cpu: 100, memory: 100 };
const containers = [{ index: 0, name: "app", image: "menu:42", options }];
const parse = (io?: unknown) =>
  setTemplateInput.safeParse({ cpu: 1, memory: "64Mi", containers, ...(io ? { io } : {}) });

describe("limits of block I/O in a template", () => {
  it("are sizes with units and whole numbers, and come out as agents take them", () => {
    const { data } = parse({ readBytesPerSecond: "50Mi", writeOpsPerSecond: 200 });
    expect(data?.io).toEqual({ readBytesPerSecond: 50 * 2 ** 20, writeOpsPerSecond: 200 });
    expect(setTemplateSchema.parse(data)).toEqual(data);
  });

  it("are not in a template without them, which agents that do not know of them take", () => {
    expect(Object.keys(parse().data ?? {})).not.toContain("io");
  });

  it.each([
    ["no limit at all", {}],
    ["an unknown one", { bytesPerSecond: "50Mi" }],
    ["less than a mebibyte a second", { readBytesPerSecond: 2 ** 20 - 1 }],
    ["more than there is", { writeBytesPerSecond: "64Ti" }],
    ["too few operations", { readOpsPerSecond: 9 }],
    ["part of an operation", { readOpsPerSecond: 10.5 }],
    ["more operations than the kernel counts", { writeOpsPerSecond: 2 ** 32 }],
  ])("are refused with %s", (_what, io) => {
    const { error } = parse(io);
    expect(error?.issues[0]?.path[0]).toBe("io");
  });
});

describe("the image of a container", () => {
  const isImage = (image: string) =>
    setTemplateInput.safeParse({
      cpu: 1,
      memory: "64Mi",
      containers: [{ index: 0, name: "app", image, options }],
    }).success;

  it.each([
    "menu",
    "menu:42",
    "team/menu:42",
    "docker.io/library/menu",
    "localhost/menu",
    "registry:5000/team/menu:42",
    "Registry.Example-1.com:443/a/b/c_d/e__f/g---h.i:V1.0_rc-2",
    `menu@sha256:${"0a".repeat(32)}`,
    `menu:42@sha256:${"0a".repeat(32)}`,
  ])("may be %s", (image) => expect(isImage(image)).toBe(true));

  it.each([
    "",
    "Menu",
    "team/Menu",
    "menu:",
    "menu:-1",
    "menu.:1",
    "a___b",
    "a._b",
    "/menu",
    "menu/",
    "team//menu",
    "-registry/menu",
    "registry:500000/menu",
    "menu@sha256:abc",
    "menu 42",
    "menu;42",
    "a".repeat(256),
  ])("is not %s", (image) => expect(isImage(image)).toBe(false));
});

it("a template is bounded, so that an answer with the templates of a whole host is too", () => {
  const withEnv = (text: string) =>
    setTemplateInput.safeParse({
      cpu: 1,
      memory: "64Mi",
      containers: [
        {
          index: 0,
          name: "app",
          image: "menu:42",
          options: { ...options, env: { LONG: text } },
        },
      ],
    });
  for (const character of ["a", "é", "€", "😀"]) {
    const bytes = Buffer.byteLength(character);
    expect(withEnv(character.repeat(28_000 / bytes)).success).toBe(true);
    const { error } = withEnv(character.repeat(31_000 / bytes));
    expect(error?.issues[0]?.message).toMatch(/^takes 3\d{4} bytes as JSON/);
  }
});

it("a stored template that an earlier version accepted can be read, although new ones are refused", () => {
  const { data } = setTemplateInput.safeParse({
    cpu: 1,
    memory: "64Mi",
    volume: { size: "64Mi", mountPath: "/data" },
    containers: [{ index: 0, name: "app", image: "menu:42", options }],
  });
  if (!data) throw new Error("it is valid");
  const stored = {
    ...data,
    volume: { ...data.volume, mountPath: "/proc" },
    containers: data.containers.map((container) => ({ ...container, image: "Team/Menu:1" })),
  };
  expect(setTemplateSchema.safeParse(stored).success).toBe(true);
});
