import { expect, it } from "vitest";
import { describeApi, mountApiForDocs } from "./describe-api.ts";

const document = describeApi("1.2.3");

interface Operation {
  operationId?: string;
  tags?: string[];
  summary?: string;
  security?: unknown[];
  requestBody?: {
    required?: boolean;
    content: Record<string, { schema: { $ref?: string } } | undefined>;
  };
  responses?: Record<string, { description?: string; content?: Record<string, unknown> }>;
}
const operations = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
  Object.entries(item as Record<string, Operation>).map(
    ([method, operation]) => [`${method} ${path}`, operation] as const,
  ),
);

it("describes each mounted operation under a unique id", () => {
  const mounted = mountApiForDocs("0").mounted.map((it) => it.operationId);
  const described = operations.map(([, operation]) => operation.operationId ?? "");
  expect(new Set(mounted).size).toBe(mounted.length);
  expect(described.toSorted()).toEqual(mounted.toSorted());
});

it.each(operations)(
  "describes the purpose, the callers and the errors of %s",
  (_name, operation) => {
    expect(operation.tags).toHaveLength(1);
    expect(operation.summary).toBeTruthy();
    expect(operation.security).toBeDefined();
    // A request may omit its body only if the body requires no member.
    if (operation.requestBody?.required === false) {
      const reference = operation.requestBody.content["application/json"]?.schema.$ref;
      const name = reference?.replace("#/components/schemas/", "") ?? "";
      const schema = document.components?.schemas?.[name];
      expect(schema).toMatchObject({ type: "object" });
      expect(schema).not.toHaveProperty("required");
    }
    const failures = Object.entries(operation.responses ?? {}).filter(
      ([status]) => status >= "400",
    );
    const isPublic = operation.security?.length === 0;
    expect(failures.some(([status]) => status >= "500")).toBe(true);
    expect(isPublic || failures.some(([status]) => status < "500")).toBe(true);
    for (const [, response] of failures) {
      expect(Object.keys(response.content ?? {})).toEqual(["application/problem+json"]);
      expect(response.description).toBeTruthy();
    }
  },
);

it("describes each tag that an operation uses, and no other", () => {
  const used = new Set(operations.flatMap(([, operation]) => operation.tags ?? []));
  expect([...used].toSorted()).toEqual((document.tags ?? []).map((tag) => tag.name).toSorted());
});

it("defines the schema of each reference, and names no nullable schema", () => {
  const schemas = document.components?.schemas ?? {};
  const references = JSON.stringify(document).matchAll(/"#\/components\/schemas\/([^"]+)"/g);
  for (const [, name] of references) expect(Object.keys(schemas)).toContain(name);
  for (const [name, schema] of Object.entries(schemas)) {
    const type = "type" in schema ? schema.type : undefined;
    expect(Array.isArray(type) && type.includes("null"), name).toBe(false);
  }
});

it("describes each member of a service and of a set whose name does not explain it", () => {
  const schemas = document.components?.schemas as Record<
    string,
    { properties: Record<string, { description?: string }> }
  >;
  const isDescribed = (schema: string, member: string) =>
    schemas[schema]?.properties[member]?.description !== undefined;
  for (const member of ["revision", "targetRevision", "desiredReplicas", "settled"]) {
    expect(isDescribed("Service", member), member).toBe(true);
  }
  for (const member of ["resizeApplied", "moving", "reason", "memoryUsedBytes"]) {
    expect(isDescribed("Set", member), member).toBe(true);
  }
});
