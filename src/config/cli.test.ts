import { expect, test } from "vitest";
import { loadCliConfig } from "./cli.ts";

test("reads the environment, and treats an empty variable as unset", () => {
  expect(
    loadCliConfig({ HOME: "/home/me", BERTH_API_URL: "https://berth.example", BERTH_TENANT: "" }),
  ).toEqual({
    apiUrl: "https://berth.example",
    token: undefined,
    tokenFile: undefined,
    tenant: undefined,
    context: undefined,
    configFile: "/home/me/.config/berth/config.json",
    dataDir: ".berth",
    colorAllowed: true,
  });
  expect(loadCliConfig({ NO_COLOR: "" }).colorAllowed).toBe(true);
  expect(loadCliConfig({ NO_COLOR: "1" }).colorAllowed).toBe(false);
});

test("lists all invalid variables, and no value", () => {
  const environment = {
    BERTH_API_URL: "ftp://berth.example",
    BERTH_TOKEN: "t".repeat(513),
    BERTH_TENANT: "n".repeat(64),
  };
  expect(() => loadCliConfig(environment)).toThrow(
    "✖ BERTH_API_URL must be an http or https URL\n" +
      "✖ BERTH_TOKEN must have at most 512 characters\n" +
      "✖ BERTH_TENANT must have at most 63 characters",
  );
});
