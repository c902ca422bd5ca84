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
  assertSupported({ ...defaultControlSettings, capabilitiesAllowed }, { template });
});

it("a template fixes only host ports that the operator permits", () => {
  const ports = [
    { name: "any", port: 22, protocol: "tcp" as const, publish: true as const },
    { name: "http", port: 80, protocol: "tcp" as const, publish: { hostPort: 8080 } },
    { name: "ssh", port: 22, protocol: "udp" as const, publish: { hostPort: 22 } },
  ];
  const { template: plain } = localSet();
  expect(() => assertSupported(defaultControlSettings, { template: { ...plain, ports } })).toThrow(
    expect.objectContaining({
      code: "unsupported",
      errors: [
        expect.objectContaining({
          pointer: "/template/ports/2/publish/hostPort",
          detail: expect.stringContaining("BERTH_FIXED_HOST_PORTS"),
        }),
      ],
    }),
  );
});
