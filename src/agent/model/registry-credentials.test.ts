import { inspect } from "node:util";
import { beforeEach, expect, it } from "vitest";
import { RegistryCredentials } from "./registry-credentials.ts";

let credentials: RegistryCredentials;
const ghcr = { tenant: "food", registry: "ghcr.io", username: "puller", password: "swordfish" };
const hub = { ...ghcr, registry: "docker.io", password: "marlin" };
const findPassword = (tenant: string, image: string) =>
  credentials.find(tenant, image)?.password.reveal();

beforeEach(() => {
  credentials = new RegistryCredentials();
  credentials.update([ghcr, hub]);
});

it("finds the credential of the tenant for the registry of the image", () => {
  expect(findPassword("food", "ghcr.io/team/menu:42")).toBe("swordfish");
  expect(findPassword("food", "team/menu@sha256:1")).toBe("marlin");
  expect(findPassword("food", "ghcr.io:444/team/menu")).toBeUndefined();
  expect(findPassword("toys", "ghcr.io/team/menu:42")).toBeUndefined();
});

it("replaces all credentials with those of an answer, and none without a list", () => {
  credentials.update(undefined);
  expect(findPassword("food", "menu")).toBe("marlin");
  credentials.update([{ ...ghcr, password: "tuna" }]);
  expect(findPassword("food", "ghcr.io/menu")).toBe("tuna");
  expect(findPassword("food", "menu")).toBeUndefined();
  credentials.update([]);
  expect(findPassword("food", "ghcr.io/menu")).toBeUndefined();
});

it("retains a password that the API could not decrypt", () => {
  credentials.update([
    { ...ghcr, password: null },
    { ...ghcr, registry: "quay.io", password: null },
  ]);
  expect(findPassword("food", "ghcr.io/menu")).toBe("swordfish");
  expect(credentials.find("food", "quay.io/menu")).toBeUndefined();
});

it("never prints a password", () => {
  const found = credentials.find("food", "ghcr.io/menu");
  for (const text of [inspect(credentials, { depth: 9, showHidden: true }), JSON.stringify(found)])
    expect(text).not.toContain("swordfish");
});
