import { expect, it } from "vitest";
import { findRegistry, parseRegistry } from "./image-registry.ts";

it.each([
  ["menu", "docker.io"],
  ["menu:42", "docker.io"],
  ["team/menu:42", "docker.io"],
  ["docker.io/library/menu", "docker.io"],
  ["index.docker.io/team/menu", "docker.io"],
  ["ghcr.io/team/menu:42", "ghcr.io"],
  ["localhost/menu", "localhost"],
  ["registry:5000/menu", "registry:5000"],
  ["127.0.0.1:5000/team/menu@sha256:1", "127.0.0.1:5000"],
  ["[2001:db8::1]:5000/menu", "[2001:db8::1]:5000"],
  ["Registry.Example.com/menu", "registry.example.com"],
  ["REGISTRY/menu", "registry"],
])("the registry of %s is %s, as in Docker", (reference, registry) => {
  expect(findRegistry(reference)).toBe(registry);
});

it.each([
  ["registry.example.com", "registry.example.com"],
  ["Registry.Example.com:5000", "registry.example.com:5000"],
  ["localhost", "localhost"],
  ["registry:5000", "registry:5000"],
  ["[::1]:5000", "[::1]:5000"],
  ["index.docker.io", "docker.io"],
  ["registry-1.docker.io", "docker.io"],
  ["registry", undefined],
  ["https://ghcr.io", undefined],
  ["ghcr.io/team", undefined],
  ["ghcr.io:", undefined],
  ["ghcr.io:123456", undefined],
  ["-ghcr.io", undefined],
  ["ghcr..io", undefined],
  ["user@ghcr.io", undefined],
  ["", undefined],
  [`${"a".repeat(252)}.com`, undefined],
])("the name %j of a registry is read as %j", (text, registry) => {
  expect(parseRegistry(text)).toBe(registry);
});
