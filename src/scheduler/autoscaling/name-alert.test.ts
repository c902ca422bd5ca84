import { expect, it } from "vitest";
import { nameAlert } from "./name-alert.ts";

it("names an alert by its label alertname and its key, or by its key alone", () => {
  expect(nameAlert({ key: "9f2a61c7d0b1e4aa", labels: { alertname: "CpuHigh" } })).toBe(
    "CpuHigh (9f2a61c7…)",
  );
  expect(nameAlert({ key: "k", labels: {} })).toBe("k");
});

it("splits no character in two, which no database would store", () => {
  expect(nameAlert({ key: "cpu-of-😀-menu-web", labels: {} })).toBe("cpu-of-…");
  const alertname = `${"x".repeat(79)}😀`;
  expect(nameAlert({ key: "k", labels: { alertname } })).toBe(`${"x".repeat(79)} (k)`);
});
