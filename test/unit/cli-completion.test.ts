import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { sampleHost, sampleService, sampleSet } from "../support/api/api-samples.ts";
import { berth, page, scriptedApi } from "../support/cli/cli-harness.ts";

const api = scriptedApi(({ path }) => {
  if (path.startsWith("/v1/services"))
    return page([sampleService(), sampleService({ name: "menu-db" })]);
  if (path.startsWith("/v1/sets")) return page([sampleSet()]);
  return page(path.startsWith("/v1/hosts") ? [sampleHost()] : []);
});

async function complete(...words: string[]): Promise<string[]> {
  const { stdout, stderr, exitCode } = await berth(["__complete", "--", ...words], api);
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  return stdout === "" ? [] : stdout.trimEnd().split("\n");
}

describe("completion", () => {
  test.each([
    [["sc"], ["scale"]],
    [
      ["scale", ""],
      ["menu-web", "menu-db"],
    ],
    [["scale", "menu-d"], ["menu-db"]],
    [
      ["get", "ho"],
      ["hosts", "hooks"],
    ],
    [["get", "vol"], ["volumes"]],
    [
      ["wait", "service", "menu-web", "--for", ""],
      ["settled", "deleted"],
    ],
    [
      ["wait", "set", "set_1", "--for", ""],
      ["running", "ready", "stopped", "deleted"],
    ],
    [["get", "hosts", ""], ["rack1-host7"]],
    [
      ["get", "-o", ""],
      ["table", "wide", "json", "yaml"],
    ],
    [["-o", "json", "drain", "r"], ["rack1-host7"]],
    [
      ["delete", ""],
      ["service", "set", "host", "registry", "unknown-sets", "help"],
    ],
    [["delete", "service", "menu-w"], ["menu-web"]],
    [["set", "stop", "set_"], ["set_01jd0000000000000000000001"]],
    [
      ["explain", "m"],
      ["menu-web", "menu-db"],
    ],
    [["logs", "--follow", "menu-w"], ["menu-web"]],
    [["events", "--ser"], ["--service"]],
    [["events", "--service", "menu-d"], ["menu-db"]],
    [["token", "create", "ci", "--role", "o"], ["operator"]],
    [["completion", "z"], ["zsh"]],
    [["frobnicate", ""], []],
  ])("%j can become %j", async (words, candidates) => {
    expect((await complete(...words)).toSorted()).toEqual(candidates.toSorted());
  });

  test("completes commands without an API, but no names, and prints no error", async () => {
    const down = { fetch: () => Promise.reject(new Error("down")) };
    const names = await berth(["__complete", "--", "scale", ""], down);
    expect(names).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    const commands = await berth(["__complete", "--", "uncor"], down);
    expect(commands.stdout).toBe("uncordon\n");
  });
});

describe("the script of bash", () => {
  test("is valid, and offers the candidates of `berth __complete`", async () => {
    const { stdout: script } = await berth(["completion", "bash"], api);
    expect(spawnSync("bash", ["-n"], { input: script }).status).toBe(0);
    // `berth` here echoes its arguments, one candidate each, so that the test sees the request of
    // the shell.
    const session = `${script}
berth() { shift 2; printf '%s\\n' "$#" "$@"; }
COMP_WORDS=(berth get services me) COMP_CWORD=3
_berth
printf '%s|' "\${COMPREPLY[@]}"
complete -p berth`;
    const run = spawnSync("bash", ["-c", session], { encoding: "utf8" });
    expect(run.stderr).toBe("");
    expect(run.stdout).toContain("3|get|services|me|");
    expect(run.stdout).toContain("-F _berth berth");
  });

  test("zsh and fish get scripts that call the same command", async () => {
    for (const shell of ["zsh", "fish"]) {
      const { stdout } = await berth(["completion", shell], api);
      expect(stdout).toContain("berth __complete --");
    }
  });
});
