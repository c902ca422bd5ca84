import { expect, it } from "vitest";
import type { HostCredentialState } from "../../agent/ports/host-credential-store.ts";
import { silentLog } from "../../lib/log.ts";
import { HostCredentials } from "./host-credentials.ts";

/** Credentials on a disk that fails from `failsAt` on, and the order of saves and sends. */
function open(stored: HostCredentialState, failsAt = Number.POSITIVE_INFINITY) {
  const steps: string[] = [];
  const disk = { state: stored, saves: 0, failsAt };
  const credentials = new HostCredentials({
    stored,
    store: {
      saveCredentials: async (state) => {
        if (++disk.saves >= disk.failsAt) throw new Error("the disk is full");
        disk.state = JSON.parse(JSON.stringify(state)) as HostCredentialState;
        steps.push(`save ${state.nextCredential === undefined ? "present" : "next"}`);
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
  credentials.noteRequest("a", send);
  credentials.noteRequest("a", send); // in progress
  await credentials.settled();
  expect(steps).toEqual(["save next", "send with a", "save present", "send as first use"]);
  expect(disk.state).toEqual({ credential: credentials.current, previousCredential: "a" });
  expect(credentials.current).toMatch(/^brt_/);
  // The answer to a request with the previous credential is stale.
  credentials.noteRequest("a", send);
  await credentials.settled();
  expect(steps).toHaveLength(4);
});

it.each([1, 2])("uses no credential whose save %i failed, and tries the same again", async (at) => {
  const { credentials, disk, send } = open({ credential: "a" }, at);
  credentials.noteRequest("a", send);
  await credentials.settled();
  expect(credentials.current).toBe("a");
  const { nextCredential } = disk.state;
  disk.failsAt = Number.POSITIVE_INFINITY;
  credentials.noteRequest("a", send);
  await credentials.settled();
  expect(disk.state.previousCredential).toBe("a");
  if (nextCredential !== undefined) expect(credentials.current).toBe(nextCredential);
});

it("sends the same credential after a lost answer, and uses it only after an answer", async () => {
  const { credentials, disk, send } = open({ credential: "a" });
  const lose = () => Promise.reject(new Error("no answer"));
  credentials.noteRequest("a", lose);
  await credentials.settled();
  const { nextCredential } = disk.state;
  expect(credentials.current).toBe("a");
  credentials.noteRequest("a", send);
  await credentials.settled();
  expect(credentials.current).toBe(nextCredential);
});

it("falls back to the previous credential only if Berth accepts it", async () => {
  const { credentials, disk } = open({ credential: "b", previousCredential: "a" });
  expect(credentials.findOther("b")).toBe("a");
  expect(credentials.findOther("a")).toBe("b");
  await credentials.noteAccepted("b");
  expect(credentials.current).toBe("b");
  await Promise.all([credentials.noteAccepted("a"), credentials.noteAccepted("a")]);
  expect(disk.state).toEqual({ credential: "a", nextCredential: "b" });
  expect(credentials.findOther("a")).toBeUndefined();
});
