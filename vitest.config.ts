import { defineConfig } from "vitest/config";

/**
 * The projects, by what a test needs: nothing (unit), Postgres and Redis (integration), Docker as well
 * (agent), Open vSwitch (network), a test host with LVM (lvm), a test host with systemd (modern-host, and on-modern-host for the
 * tests that run on that host; qemu on request), the built processes as a user starts them (e2e).
 *
 * There is no retry anywhere: a test that fails once has found something. Tests that share the machine's
 * Docker daemon run one file at a time; the others are isolated by a database and a queue prefix per file.
 */
const isTestHost = process.env["BERTH_UML"] === "1";
/** test/qemu runs some tests of the project `network` in an emulated processor. */
const packetTimeoutMs = process.env["BERTH_TEST_DATAPATH"] === "system" ? 900_000 : 180_000;
const skipsDocker = process.env["BERTH_TEST_DOCKER"] === "skip";
if (skipsDocker) {
  console.warn("BERTH_TEST_DOCKER=skip: leaving out the agent and e2e tests, which need Docker");
}

export default defineConfig({
  test: {
    // A poll ends with success as soon as it can: its deadline is for machines that are slow or busy.
    // Only projects that extend this file have it. The default is 1 s.
    expect: { poll: { timeout: 60_000 } },
    passWithNoTests: skipsDocker,
    coverage: {
      provider: "v8",
      reporter: ["text-summary", "json"],
      include: ["src/scheduler/**/*.ts", "src/agent/set/*.ts"],
      exclude: ["**/*.test.ts"],
      thresholds: {
        "src/scheduler/**": { branches: 95 },
        "src/agent/set/reconcile**": { branches: 95 },
      },
    },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "test/unit/**/*.test.ts", "test/*.test.ts"],
          testTimeout: 90_000,
        },
      },
      {
        extends: true,
        test: {
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
          globalSetup: ["test/support/servers/global-setup.ts"],
          // Two files at once saturate two cores, and every file brings a database of its own.
          maxWorkers: 2,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        extends: true,
        test: {
          name: "agent",
          include: skipsDocker ? [] : ["test/agent/**/*.test.ts"],
          globalSetup: ["test/support/servers/global-setup.ts"],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        // With Open vSwitch, python3 and network namespaces: npm run test:network.
        extends: true,
        test: {
          name: "network",
          include: ["test/network/**/*.test.ts"],
          globalSetup: ["test/support/servers/global-setup.ts"],
          fileParallelism: false,
          testTimeout: packetTimeoutMs,
          hookTimeout: packetTimeoutMs,
        },
      },
      {
        // Inside of the test host that scripts/uml boots: npm run test:lvm.
        extends: true,
        test: {
          name: "lvm",
          include: isTestHost ? ["test/lvm/**/*.test.ts"] : [],
          fileParallelism: false,
          testTimeout: 900_000,
          hookTimeout: 900_000,
        },
      },
      {
        // The global setup boots one test host with systemd for all files: npm run test:modern-host.
        extends: true,
        test: {
          name: "modern-host",
          include: skipsDocker ? [] : ["test/modern-host/**/*.test.ts"],
          globalSetup: ["test/support/modern-host/global-setup.ts"],
          fileParallelism: false,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      {
        // Inside of the host with systemd: test/modern-host/engine-ports.test.ts runs it there.
        extends: true,
        test: {
          name: "on-modern-host",
          include: isTestHost ? ["test/agent/engine-ports.test.ts"] : [],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        // The same host in qemu, whose kernel has more features: npm run test:qemu.
        extends: true,
        test: {
          name: "qemu",
          include: process.env["BERTH_MODERN_HOST"] === "qemu" ? ["test/qemu/**/*.test.ts"] : [],
          globalSetup: ["test/support/modern-host/global-setup.ts"],
          fileParallelism: false,
          testTimeout: 1_600_000,
          hookTimeout: 1_600_000,
        },
      },
      {
        extends: true,
        test: {
          name: "e2e",
          include: skipsDocker ? [] : ["test/e2e/**/*.test.ts"],
          globalSetup: ["test/support/servers/global-setup.ts"],
          fileParallelism: false,
          testTimeout: 600_000,
          hookTimeout: 400_000,
        },
      },
    ],
  },
});
