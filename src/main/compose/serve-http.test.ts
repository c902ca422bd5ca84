import { expect, it } from "vitest";
import { isDashboardPath } from "./serve-http.ts";

const origin = "http://127.0.0.1:8080";

it.each(["/ops/queues", "/ops/queues/", "/ops/queues?tab=failed", "/ops/queues/api/queues/x"])(
  "sends %s to the dashboard",
  (path) => expect(isDashboardPath(origin + path)).toBe(true),
);

it.each(["/", "/ops", "/ops/queues-of-others", "/v1/events?after=/ops/queues", "/v1/ops/queues"])(
  "sends %s to the API",
  (path) => expect(isDashboardPath(origin + path)).toBe(false),
);
