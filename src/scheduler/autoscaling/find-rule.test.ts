import { describe, expect, it } from "vitest";
import { alertIdentity, findRule, ruleKey } from "./find-rule.ts";

describe("findRule", () => {
  const rules = [
    { match: { alertname: "CpuHigh", severity: "page" }, want: { replicas: 9 } },
    { match: { alertname: "CpuHigh" }, want: { step: 1 } },
  ];

  it("returns the first rule whose labels the alert has", () => {
    expect(findRule(rules, { alertname: "CpuHigh", severity: "page", x: "y" })).toBe(rules[0]);
    expect(findRule(rules, { alertname: "CpuHigh", severity: "info" })).toBe(rules[1]);
    expect(findRule(rules, { alertname: "DiskFull" })).toBeUndefined();
  });

  it("matches every alert when a rule names no label", () => {
    expect(findRule([{ match: {}, want: { step: 1 } }], {})).toBeDefined();
  });

  it("does not match properties that each object inherits", () => {
    expect(findRule([{ match: { constructor: "x" }, want: { step: 1 } }], {})).toBeUndefined();
  });
});

describe("ruleKey", () => {
  it("depends on the matched labels alone, in any order", () => {
    expect(ruleKey({ match: { b: "2", a: "1" } })).toBe('[["a","1"],["b","2"]]');
    expect(ruleKey({ match: {} })).toBe("[]");
  });
});

describe("alertIdentity", () => {
  it("omits labels with a measured value", () => {
    const labels = { alertname: "CpuHigh", instance: "10.0.0.1:9100", shard: "3" };
    const measured = { value: "97", current_value: "x", load: "0.93", used: "97%", rate: "1.5e3" };
    expect(alertIdentity({}, { labels: { ...labels, ...measured } })).toBe(
      alertIdentity({}, { labels }),
    );
    for (const name of Object.keys(labels)) {
      const other = { ...labels, [name]: "other" };
      expect(alertIdentity({}, { labels: other })).not.toBe(alertIdentity({}, { labels }));
    }
  });

  it("consists of the labels that the rule chooses, if it chooses any", () => {
    const rule = { identity: ["app", "absent"] };
    expect(alertIdentity(rule, { labels: { app: "menu", instance: "a" }, name: "k" })).toBe(
      '[["app","menu"]]',
    );
    expect(alertIdentity({ identity: [] }, { labels: { app: "menu" } })).toBe("[]");
  });

  it("is the sender's own name of the alert, if it gives one", () => {
    expect(alertIdentity({}, { labels: { a: "1" }, name: "queue" })).toBe('"queue"');
  });
});
