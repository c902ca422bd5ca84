import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { loadStopSetsConfig } from "./stop-sets.ts";

it("reads its settings beside those of the agent", () => {
  expect(loadStopSetsConfig({ BERTH_API_URL: "http://api", BERTH_AGENT_ZONE: "z1" })).toEqual({
    BERTH_DOCKER_SOCKET: "/var/run/docker.sock",
    BERTH_SETS_STOP_TIMEOUT_MS: 110_000,
  });
  const own = { BERTH_DOCKER_SOCKET: "/run/d.sock", BERTH_SETS_STOP_TIMEOUT_MS: "300000" };
  expect(loadStopSetsConfig(own)).toMatchObject({ BERTH_SETS_STOP_TIMEOUT_MS: 300_000 });
});

it("an invalid setting of the agent does not prevent the ordered stop", () => {
  expect(() =>
    loadStopSetsConfig({ BERTH_AGENT_ZONE: "Not A Name", BERTH_ODD: "1" }),
  ).not.toThrow();
  expect(() => loadStopSetsConfig({ BERTH_SETS_STOP_TIMEOUT_MS: "0" })).toThrow(
    "BERTH_SETS_STOP_TIMEOUT_MS",
  );
});

it("its unit reads an optional file of its own, and the agent's unit does not", () => {
  const readUnit = (name: string) =>
    readFileSync(new URL(`../../systemd/${name}.service`, import.meta.url), "utf8");
  const line = "EnvironmentFile=-/etc/berth/stop-sets.env";
  expect(readUnit("berth-stop-sets").split("\n")).toContain(line);
  expect(readUnit("berth-host-agent")).not.toContain("stop-sets.env");
});
