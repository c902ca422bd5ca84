import { expect, test } from "vitest";
import type { FetchFunction } from "./api/http-fetch.ts";
import type { EndpointList } from "../contracts/api/endpoints.ts";
import { sampleNowMs, sampleService } from "../../test/support/api/api-samples.ts";
import { berth, json, scriptedApi } from "../../test/support/cli/cli-harness.ts";

const host = { id: "host_01jd0000000000000000000001", name: "h1" };
const list: EndpointList = {
  service: "web",
  version: "0123456789abcdef",
  total: 1_001,
  endpoints: [
    {
      setId: "set_01jd0000000000000000000001",
      host,
      reach: "network",
      interfaces: [
        { network: "front", addresses: ["10.1.0.2", "fd01::2"] },
        { network: "back", addresses: ["10.2.0.2"] },
      ],
      ports: [],
    },
    {
      setId: "set_01jd0000000000000000000002",
      host,
      reach: "host",
      interfaces: [{ network: null, addresses: ["172.17.0.2"] }],
      ports: [
        {
          name: "http",
          protocol: "tcp",
          port: 8080,
          published: { address: "192.0.2.7", port: 20_001 },
        },
        {
          name: "https",
          protocol: "tcp",
          port: 8443,
          published: { address: "fd00::7", port: 443 },
        },
        { name: "dns", protocol: "udp", port: 53, published: null },
      ],
    },
  ],
  gateways: [],
};
const options = () => ({ ...scriptedApi(() => json(list)), now: () => sampleNowMs });

test("get endpoints shows where each set is reachable, and says how many are not shown", async () => {
  const api = options();
  const run = await berth(["get", "endpoints", "web"], api);
  expect(run.stdout).toMatch(
    /0001 +h1 +network +10\.1\.0\.2, fd01::2 \(front\) +10\.2\.0\.2 \(back\)/,
  );
  expect(run.stdout).toMatch(/0002 +h1 +host +172\.17\.0\.2 \(bridge\)/);
  expect(run.stdout).toContain(
    "http 8080/tcp at 192.0.2.7:20001  https 8443/tcp at [fd00::7]:443  dns 53/udp",
  );
  expect(run.stderr).toBe("Only the first 2 of 1001 are shown.\n");
  expect(api.seen).toMatchObject([{ method: "GET", path: "/v1/services/web/endpoints" }]);
});

test("get endpoints shows the ports of gateways, and why clients cannot connect", async () => {
  const port = { port: "https", protocol: "tcp", gatewayGroup: "edge", gatewayPort: 443 } as const;
  const gateways: EndpointList["gateways"] = [
    { ...port, host: { ...host, name: "g1" }, address: "192.0.2.1", reason: null },
    { ...port, host: { ...host, name: "g2" }, address: null, reason: "host-port-taken" },
  ];
  const api = { ...scriptedApi(() => json({ ...list, gateways })), now: () => sampleNowMs };
  const run = await berth(["get", "endpoints", "web"], api);
  expect(run.stdout).toMatch(/g1 +https\/tcp +192\.0\.2\.1:443 +ready/);
  expect(run.stdout).toMatch(/g2 +https\/tcp +unknown:443 +host-port-taken/);
});

test("get services -o wide shows the gateways at which services are published", async () => {
  const gatewayPorts = [{ port: "https", gatewayGroup: "edge", gatewayPort: 443 }];
  const items = [sampleService({ gatewayPorts })];
  const api = { ...scriptedApi(() => json({ items, nextCursor: null })), now: () => sampleNowMs };
  const run = await berth(["get", "services", "-o", "wide"], api);
  expect(run.stdout).toMatch(/GATEWAY PORTS.*\n.*https at edge:443/);
});

test("get endpoints prints the list with its version for programs", async () => {
  const run = await berth(["-o", "json", "get", "ep", "web"], options());
  expect(JSON.parse(run.stdout)).toEqual(list);
});

/** Streams these texts to each connection in turn. The last one stays open until Ctrl-C. */
function streamingApi(connections: string[]): FetchFunction {
  const encoder = new TextEncoder();
  return async (_url, init) => {
    const text = connections.shift();
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(encoder.encode(text));
        if (connections.length > 0) controller.close();
        else init.signal.addEventListener("abort", () => controller.error(new Error("aborted")));
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
}
const message = (version: string, total: number): string =>
  `event: endpoints\nid: ${version}\ndata: ${JSON.stringify({ ...list, version, total, endpoints: list.endpoints.slice(0, total) })}\n\n`;

/** Follows until `count` lines were printed, then presses Ctrl-C. */
async function follow(argv: string[], connections: string[], count: number) {
  const interrupt = new AbortController();
  let lines = 0;
  const onStdout = (): void => {
    lines++;
    if (lines === count) interrupt.abort();
  };
  const { signal } = interrupt;
  return await berth(argv, {
    fetch: streamingApi(connections),
    now: () => sampleNowMs,
    signal,
    onStdout,
  });
}

test("get endpoints -f prints each change once, even if a new connection repeats the list", async () => {
  const connections = [message("a", 2) + message("b", 1), message("b", 1) + message("c", 2)];
  const run = await follow(["-o", "json", "get", "endpoints", "web", "-f"], connections, 3);
  const lines = run.stdout.trimEnd().split("\n");
  expect(lines.map((line) => (JSON.parse(line) as EndpointList).version)).toEqual(["a", "b", "c"]);
  expect(run.exitCode).toBe(130);
});

test("get endpoints -f prints a table with its time after each change", async () => {
  const run = await follow(["get", "endpoints", "web", "-f"], [message("a", 1)], 3);
  expect(run.stdout).toMatch(/^\d\d:\d\d:\d\d\.\d{3} {2}1 endpoint of web\nSET .*\n.*10\.1\.0\.2/);
});

test("get sets does not take -f", async () => {
  const run = await berth(["get", "sets", "-f"], options());
  expect(run.exitCode).toBe(2);
  expect(run.stderr).toContain("--follow does not apply to sets. It applies to endpoints.");
});

test("get endpoints needs the name of a service", async () => {
  const api = options();
  const run = await berth(["get", "endpoints"], api);
  expect(run).toMatchObject({ exitCode: 2 });
  expect(run.stderr).toContain("berth get endpoints SERVICE");
  expect(api.seen).toEqual([]);
});
