import { describe, expect, it } from "vitest";
import { setTemplateInput, type SetTemplate } from "../api/set-template.ts";
import { listNeededFeatures, omitFeatures } from "./agent-features.ts";

const container = {
  index: 0,
  name: "app",
  image: "menu:42",
  options: { cpu: 100, memory: 100 },
};
const parse = (template: object = {}, options: object = {}): SetTemplate =>
  setTemplateInput.parse({
    cpu: 1,
    memory: "64Mi",
    containers: [{ ...container, options: { ...container.options, ...options } }],
    ...template,
  });

describe("the features that a template needs", () => {
  it("are none for a template without options, so that agents of each release accept it", () => {
    expect(listNeededFeatures(parse())).toEqual([]);
    expect(omitFeatures(parse())).toEqual(parse());
  });

  const hooks = { preStop: { exec: { command: ["/bin/leave"] } } };
  it.each([
    ["drain", parse({ drainSeconds: 5 })],
    ["drain", parse({ drainSeconds: 0 })],
    ["hooks", parse({}, { hooks })],
    ["serving", parse({}, { serving: "required" })],
    ["extra-hosts", parse({ extraHosts: { "db.example": "10.0.0.1" } })],
    ["tmpfs", parse({}, { tmpfs: [{ mountPath: "/run", size: "1Mi" }] })],
  ])("are those of its members: %s", (feature, template) => {
    expect(listNeededFeatures(template)).toEqual([feature]);
    expect(omitFeatures(template)).toEqual(parse());
  });
});
