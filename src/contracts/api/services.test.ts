import { expect, it } from "vitest";
import { createServiceBody } from "./services.ts";

it("accepts the examples that the API page shows", () => {
  const examples = createServiceBody.meta()?.["examples"] as unknown[];
  expect(examples).not.toEqual([]);
  for (const example of examples)
    expect(createServiceBody.safeParse(example).error).toBeUndefined();
});

it("refuses a disruption budget under which no set could be moved", () => {
  const withBudget = (disruption: object) => {
    const [example] = (createServiceBody.meta()?.["examples"] ?? []) as object[];
    return createServiceBody.safeParse({ ...example, disruption }).error?.issues[0]?.message;
  };
  for (const maxSurge of [0, "0%"])
    expect(withBudget({ maxSurge, maxUnavailable: 0 })).toContain("must not both be 0");
  expect(withBudget({ maxSurge: 0 })).toBeUndefined();
  expect(withBudget({ maxUnavailable: "0%" })).toBeUndefined();
});
