import { describe, expect, it } from "vitest";
import type { SyncResult } from "../../contracts/agent-protocol/sync.ts";
import { setTemplateInput } from "../../contracts/api/set-template.ts";
import { omitUnsupportedSets } from "./omit-unsupported-sets.ts";

const container = { index: 0, name: "app", image: "app:1" };
const templateOf = (options: object, members: object = {}) =>
  setTemplateInput.parse({
    cpu: 1,
    memory: "64Mi",
    ...members,
    containers: [{ ...container, options: { cpu: 100, memory: 100, ...options } }],
  });
const known = templateOf({});
const newer = templateOf({ init: true, tmpfs: [] }, { shm: "16Mi" });

const answerWith = (...sets: { desired: string; template: object }[]) =>
  ({ full: true, hostGeneration: 7, sets }) as SyncResult;

describe("an answer for an agent of an earlier release", () => {
  it("is unchanged without sets that the agent cannot read", () => {
    const answer = answerWith({ desired: "running", template: known });
    expect(omitUnsupportedSets(answer)).toEqual(answer);
  });

  it("lacks running sets that the agent cannot read, and is not full then", () => {
    const other = { desired: "deleted", template: known };
    const answer = answerWith({ desired: "running", template: newer }, other);
    expect(omitUnsupportedSets(answer)).toEqual({ ...answerWith(other), full: false });
  });

  it("lacks running sets with attachments, which the agent would start on Docker's bridge", () => {
    const set = { template: known, attachments: [] };
    const answer = answerWith({ ...set, desired: "running" }, { ...set, desired: "deleted" });
    const ordered = answerWith({ template: known, desired: "deleted" });
    expect(omitUnsupportedSets(answer)).toEqual({ ...ordered, full: false });
  });

  it.each(["stopped", "deleted"])("orders %s without the new members", (desired) => {
    const answer = answerWith({ desired, template: newer });
    expect(omitUnsupportedSets(answer)).toEqual(answerWith({ desired, template: known }));
  });
});
