import { expect, it } from "vitest";
import { encodeAgentIdentity, parseAgentIdentity } from "./agent-identity.ts";

const identity = { machineId: "a1", bootId: "b2-c3", processId: "d4", startedMs: 5 };

it("survives its header", () => {
  expect(parseAgentIdentity(encodeAgentIdentity(identity))).toEqual({
    ...identity,
    isEnding: false,
  });
  const withoutMachine = { ...identity, machineId: undefined };
  expect(parseAgentIdentity(encodeAgentIdentity(withoutMachine, true))).toEqual({
    ...withoutMachine,
    isEnding: true,
  });
});

it("ignores members of newer agents", () => {
  expect(parseAgentIdentity(`${encodeAgentIdentity(identity)}&more=1`)).toMatchObject(identity);
});

it.each([undefined, "", "boot=b", "boot=b&process=%00&started=1", "boot=b&process=p&started=x"])(
  "is absent in the header %j",
  (header) => {
    expect(parseAgentIdentity(header)).toBeUndefined();
  },
);
