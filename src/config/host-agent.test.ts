import { describe, expect, it } from "vitest";
import { loadAgentSettings, loadHostAgentConfig } from "./host-agent.ts";

const required = { BERTH_API_URL: "https://berth.example.org" };

describe("the configuration of a host agent", () => {
  it("requires the URL of the API, and has defaults for the rest", () => {
    expect(loadHostAgentConfig(required)).toMatchObject({
      BERTH_API_URL: "https://berth.example.org",
      BERTH_AGENT_DATA_DIR: "/var/lib/berth-agent",
      BERTH_AGENT_LABELS: {},
      BERTH_AGENT_RESERVE_MEMORY_PERCENT: 5,
      BERTH_DOCKER_SOCKET: "/var/run/docker.sock",
    });
  });

  it("reports all problems together, and no values", () => {
    const load = () =>
      loadHostAgentConfig({
        BERTH_API_URL: "ftp://secret-place",
        BERTH_AGENT_ZONE: "Not A Name",
        BERTH_AGENT_STEPS_MAX: "0",
        BERTH_AGENT_LABELS: "=nothing",
        BERTH_AGENT_ZOEN: "typo",
      });
    for (const name of ["API_URL", "AGENT_ZONE", "AGENT_STEPS_MAX", "AGENT_LABELS", "AGENT_ZOEN"]) {
      expect(load).toThrow(`BERTH_${name}`);
    }
    expect(load).not.toThrow("secret-place");
  });

  it("parses labels with spaces and empty values", () => {
    const config = loadHostAgentConfig({ ...required, BERTH_AGENT_LABELS: "disk=ssd, row=7,gpu=" });
    expect(config.BERTH_AGENT_LABELS).toEqual({ disk: "ssd", row: "7", gpu: "" });
  });

  it("never prints the enroll token", () => {
    const token = "brt_0123456789abcdef";
    const config = loadHostAgentConfig({ ...required, BERTH_ENROLL_TOKEN: token });
    expect(config.BERTH_ENROLL_TOKEN?.reveal()).toBe(token);
    expect(JSON.stringify(config)).not.toContain(token);
  });

  it("has no setting for the stop of all sets, which the previous release would refuse", () => {
    const shutdown = { BERTH_SETS_STOP_TIMEOUT_MS: "1000" };
    expect(() => loadHostAgentConfig({ ...required, ...shutdown })).toThrow("is unknown");
  });

  it("selects its own settings from those of a larger process", () => {
    const settings = loadAgentSettings({ BERTH_PORT: "1", BERTH_AGENT_RACK: "r7", PATH: "/bin" });
    expect(settings.BERTH_AGENT_RACK).toBe("r7");
    expect(() => loadAgentSettings({ BERTH_AGENT_RACK: "R 7" })).toThrow("BERTH_AGENT_RACK");
  });
});
