import { expect, it } from "vitest";
import { findCommandName } from "./command-name.ts";

const at = (directory: string, searchPath = "/usr/bin:/bin") => ({ directory, searchPath });

it.each([
  ["/opt/berth/bin/berth", at("/opt/berth"), "bin/berth"],
  ["/opt/berth/bin/berth", at("/opt/berth/bin"), "./berth"],
  ["/opt/berth/bin/berth", at("/home/me"), "/opt/berth/bin/berth"],
  ["/opt/berth/bin/berth", at("/home/me", "/usr/bin:/opt/berth/bin"), "berth"],
  ["/opt/berth/src/main/cli.ts", at("/opt/berth"), "berth"],
  [undefined, at("/opt/berth"), "berth"],
])("the command %s is called from %j as %s", (script, from, name) => {
  expect(findCommandName(script, from)).toBe(name);
});
