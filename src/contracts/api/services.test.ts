import { expect, it } from "vitest";
import { createServiceBody } from "./services.ts";

it("accepts the examples that the API page shows", () => {
  const examples = createServiceBody.meta()?.["examples"] as unknown[];
  expect(examples).not.toEqual([]);
  for (const example of examples)
    expect(createServiceBody.safeParse(example).error).toBeUndefined();
});
