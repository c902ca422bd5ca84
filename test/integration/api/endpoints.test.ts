import { afterAll, beforeAll, expect, it } from "vitest";
import type { EndpointList } from "../../../src/contracts/api/endpoints.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";

let test: TestApi;
let acme: string;

beforeAll(async () => {
  test = await createTestApi();
  acme = await test.tokenOf("tenant", "acme");
  await test.request("POST", "/v1/services", { token: acme, body: serviceBody("web") });
});
afterAll(() => test.close());

const path = "/v1/services/web/endpoints";

it("answers 304 to a caller that has the version of the list", async () => {
  const response = await test.request("GET", path, { token: acme });
  const { version } = (await response.json()) as EndpointList;
  const etag = response.headers.get("etag");
  expect(etag).toBe(`"${version}"`);
  for (const tags of [`"${version}"`, `"other", W/"${version}"`]) {
    const headers = { "if-none-match": tags };
    const unchanged = await test.request("GET", path, { token: acme, headers });
    expect(unchanged.status).toBe(304);
    expect(unchanged.headers.get("etag")).toBe(etag);
    expect(await unchanged.text()).toBe("");
  }
  const headers = { "if-none-match": '"other"' };
  expect((await test.request("GET", path, { token: acme, headers })).status).toBe(200);
});

it("lists the endpoints of the caller's tenant only", async () => {
  const globex = await test.tokenOf("tenant", "globex");
  expect((await test.request("GET", path, { token: globex })).status).toBe(404);
  const read = await test.tokenOf("read", "acme");
  expect((await test.request("GET", path, { token: read })).status).toBe(200);
});
