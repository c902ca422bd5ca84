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
