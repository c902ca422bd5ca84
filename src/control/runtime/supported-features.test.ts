import { expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { defaultControlSettings } from "./context.ts";
import { assertSupported } from "./supported-features.ts";

const { template } = localSet({ options: { capAdd: ["CHOWN", "SYS_ADMIN"] } });

it("a template adds only capabilities that the operator permits", () => {
  expect(() => assertSupported(defaultControlSettings, { template })).toThrow(
    expect.objectContaining({
      code: "unsupported",
      errors: [
        expect.objectContaining({
          pointer: "/template/containers/0/options/capAdd/1",
          detail: expect.stringContaining("SYS_ADMIN"),
        }),
      ],
    }),
  );
  const capabilitiesAllowed = ["CHOWN", "SYS_ADMIN"] as const;
  assertSupported({ capabilitiesAllowed }, { template });
});
