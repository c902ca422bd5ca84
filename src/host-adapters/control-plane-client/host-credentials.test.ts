import { expect, it } from "vitest";
import type { HostCredentialState } from "../../agent/ports/host-credential-store.ts";
import { silentLog } from "../../lib/log.ts";
import { HostCredentials } from "./host-credentials.ts";

/** Credentials on a disk that fails from `failsAt` on, and the order of saves and sends. */
function open(stored: HostCredentialState, failsAt = Number.POSITIVE_INFINITY) {
  const steps: string[] = [];
  const disk = {
    state: stored,
    saves: 0,
    failsAt,
    isSaving: false,
    beforeSave: async (_save: number) => {},
  };
  const credentials = new HostCredentials({
    stored,
    store: {
      saveCredentials: async (state) => {
        if (++disk.saves >= disk.failsAt) throw new Error("the disk is full");
        if (disk.isSaving) throw new Error("two saves at the same time");
        disk.isSaving = true;
        await disk.beforeSave(disk.saves);
        disk.isSaving = false;
        disk.state = JSON.parse(JSON.stringify(state)) as HostCredentialState;
        steps.push(`save ${state.nextCredential === undefined ? "current" : "next"}`);
      },
    },
    signal: new AbortController().signal,
    log: silentLog,
  });
  const send = async (credential: string, bearer: string) => {
    steps.push(`send ${credential === bearer ? "as first use" : `with ${bearer}`}`);
  };
  return { credentials, disk, steps, send };
}

it("saves the next credential before it sends it, and again before it uses it", async () => {
  const { credentials, disk, steps, send } = open({ credential: "a" });
  credentials.startRotation("a", send);
  credentials.startRotation("a", send); // in progress
  await credentials.settled();
  expect(steps).toEqual(["save next", "send with a", "save current", "send as first use"]);
  expect(disk.state).toEqual({ credential: credentials.current, previousCredentials: ["a"] });
  expect(credentials.current).toMatch(/^brt_/);
  // The answer to a request with the previous credential is stale.
  credentials.startRotation("a", send);
  await credentials.settled();
  expect(steps).toHaveLength(4);
});

it.each([1, 2])("uses no credential whose save %i failed, and tries the same again", async (at) => {
  const { credentials, disk, send } = open({ credential: "a" }, at);
  credentials.startRotation("a", send);
  await credentials.settled();
  expect(credentials.current).toBe("a");
  const { nextCredential } = disk.state;
  disk.failsAt = Number.POSITIVE_INFINITY;
  credentials.startRotation("a", send);
  await credentials.settled();
  expect(disk.state.previousCredentials).toEqual(["a"]);
  if (nextCredential !== undefined) expect(credentials.current).toBe(nextCredential);
});

it("sends the same credential after a lost answer, and uses it only after an answer", async () => {
  const { credentials, disk, send } = open({ credential: "a" });
  const lose = () => Promise.reject(new Error("no answer"));
  credentials.startRotation("a", lose);
  await credentials.settled();
  const { nextCredential } = disk.state;
  expect(credentials.current).toBe("a");
  credentials.startRotation("a", send);
  await credentials.settled();
  expect(credentials.current).toBe(nextCredential);
});

it("falls back to a previous credential only if Berth accepts it", async () => {
  const { credentials, disk } = open({ credential: "c", previousCredentials: ["b", "a"] });
  expect(credentials.listFallbacks("c")).toEqual(["b", "a"]);
  expect(credentials.listFallbacks("b")).toEqual(["c", "a"]);
  await credentials.confirmFallback("c", "b");
  expect(credentials.current).toBe("c");
  await Promise.all([credentials.confirmFallback("a", "c"), credentials.confirmFallback("a", "c")]);
  expect(disk.state).toEqual({ credential: "a", previousCredentials: ["c", "b"] });
});

it("ignores the acceptance of a previous credential that a rotation has replaced meanwhile", async () => {
  const { credentials, send } = open({ credential: "b", previousCredentials: ["a"] });
  // Two requests are refused with b. One of them is accepted with a, and requests a rotation.
  await credentials.confirmFallback("a", "b");
  credentials.startRotation("a", send);
  await credentials.settled();
  const rotated = credentials.current;
  await credentials.confirmFallback("a", "b");
  expect(credentials.current).toBe(rotated);
  expect(credentials.listFallbacks(rotated)).toEqual(["a", "b"]);
});

it.each([1, 2])(
  "retains a fallback that Berth accepts during save %i of a rotation",
  async (at) => {
    const previousCredentials = ["e", "d", "c", "b", "a"];
    const { credentials, disk, send } = open({ credential: "f", previousCredentials });
    let fallback: Promise<void> | undefined;
    disk.beforeSave = async (save) => {
      if (save === at) fallback = credentials.confirmFallback("a", "f");
    };
    credentials.startRotation("f", send);
    await credentials.settled();
    await fallback;
    expect(credentials.current).toBe("a");
    expect(credentials.listFallbacks("a").slice(0, 5)).toEqual(["f", "e", "d", "c", "b"]);
    expect(disk.state).toMatchObject({ credential: "a" });
  },
);

it("returns to a next credential that Berth uses already", async () => {
  const { credentials, disk } = open({ credential: "a", nextCredential: "b" });
  expect(credentials.listFallbacks("a")).toEqual(["b"]);
  await credentials.confirmFallback("b", "a");
  expect(disk.state).toEqual({ credential: "b", previousCredentials: ["a"] });
});

it("retains the credentials before the last five rotations", async () => {
  const { credentials, disk, send } = open({ credential: "a" });
  const used = ["a"];
  for (let rotation = 0; rotation < 7; rotation++) {
    credentials.startRotation(credentials.current, send);
    await credentials.settled();
    used.unshift(credentials.current);
  }
  expect(disk.state.previousCredentials).toEqual(used.slice(1, 6));
});
