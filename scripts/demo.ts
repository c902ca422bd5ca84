import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Host } from "../src/contracts/api/hosts.ts";
import {
  forgetTraces,
  noteTraces,
  removeDeadTraces,
} from "../test/support/network/machine-traces.ts";
import { DemoBerth, request } from "./lib/demo-berth.ts";
import { watchEvents } from "./lib/demo-events.ts";
import { compareWithDocker, deploy, describePhases, type FirstSet } from "./lib/demo-first-set.ts";
import {
  demoImage,
  importDemoImage,
  listContainers,
  listImageIds,
  listSetCgroups,
  removeContainers,
  removeNewImages,
} from "./lib/demo-image.ts";
import { REPLICAS_MAX, REPLICAS_MIN, SERVICE } from "./lib/demo-manifest.ts";
import { showPlaces } from "./lib/demo-places.ts";
import { DemoNetwork } from "./lib/demo-network.ts";
import { DemoScreen } from "./lib/demo-screen.ts";
import {
  openServiceAddress,
  type ServiceAddress,
  type ServiceAddressFigures,
} from "./lib/demo-service-address.ts";
import { alertDelivery, describeAnswer, describeEvent } from "./lib/demo-story.ts";
import { NetworkView } from "./lib/demo-view.ts";
import { purgeVolumes } from "./lib/demo-volumes.ts";
import { pause, untilAnswering, untilLeft, type WebAnswer } from "./lib/demo-watch.ts";

/** scripts/demo prepares the machine and starts this program. */

const root = fileURLToPath(new URL("..", import.meta.url));
const logFile = path.join(root, ".berth/demo.log");
/** Stabilization of an ended alert's demand. The default is five minutes; the demo shortens it. */
const STABILIZATION_SECONDS = 3;
const STEP_DEADLINE_MS = 90_000;

interface Figures extends FirstSet, ServiceAddressFigures, Scaling {
  url: string;
}

interface Scaling {
  scaledOutTo: number;
  firstNewSetMs: number;
  scaleOutMs: number;
  scaledInTo: number;
  scaleInMs: number;
}

/** Traces of the demo to delete at its end, as far as they exist. */
interface Traces {
  imagesBefore: Set<string>;
  hostId: string | undefined;
  isDeployed: boolean;
  /** Sets that have answered once. */
  known: Map<string, WebAnswer>;
  view: NetworkView;
  service: ServiceAddress | undefined;
}

/** The parts of the demo. */
interface Stage {
  screen: DemoScreen;
  berth: DemoBerth;
  network: DemoNetwork;
}

async function showBerth(
  { screen, berth, network }: Stage,
  traces: Traces,
  signal: AbortSignal,
): Promise<Figures> {
  screen.heading("Berth starts on this machine");
  const networkStartedAtMs = Date.now();
  await network.start();
  screen.good(`Open vSwitch and network driver, ready after ${since(networkStartedAtMs)}`);
  signal.throwIfAborted(); // the end of the demo stops the network, and would miss this process
  const startedAtMs = Date.now();
  await berth.start(network.agentSettings);
  screen.good(`API, job worker and host agent in one process, ready after ${since(startedAtMs)}`);
  screen.line(`phases: ${describePhases(berth.startMs)}`);
  screen.line("with an embedded Postgres and an embedded Redis, without configuration");
  const host = await untilHostReady(berth);
  traces.hostId = host.id;
  noteTraces({ hostId: host.id }, { image: demoImage });
  screen.good(
    `this machine is enrolled as host ${host.name}: ${host.allocatable.cpuMillis / 1000} cores, ${Math.round(host.allocatable.memoryBytes / 2 ** 20)} Mi for sets`,
  );
  await fillFurther(berth);

  screen.heading("An image, built here from BusyBox and imported into Docker");
  const importedAtMs = Date.now();
  await importDemoImage();
  screen.good(`${demoImage}: a web server, imported in ${Date.now() - importedAtMs} ms`);

  const { known, view } = traces;
  traces.isDeployed = true;
  const first = await deploy(screen, berth, { known, view, deadlineMs: STEP_DEADLINE_MS });
  await showCommand(screen, berth, ["get", "sets"]);
  const compared = await compareWithDocker(screen, host.id, first.firstSetRunningMs);

  screen.heading("The address of the service");
  const service = await openServiceAddress(screen, berth, { view, known });
  traces.service = service;
  await service.sample();
  await showCommand(screen, berth, ["get", "endpoints", SERVICE]);
  const out = await scaleOutAndIn(screen, berth, { known, view, service });
  await service.endRequests();
  const { figures, url } = service;
  if (figures.serviceRequestsFailed > 0)
    screen.bad(`${figures.serviceRequestsFailed} of ${figures.serviceRequests} requests failed`);
  else screen.good(`none of ${figures.serviceRequests} requests to the service address failed`);
  return { ...first, ...compared, ...out, ...figures, url };
}

async function untilHostReady(berth: DemoBerth): Promise<Host> {
  const deadline = Date.now() + STEP_DEADLINE_MS;
  for (;;) {
    const { items } = await berth.request<{ items: Host[] }>("GET", "/v1/hosts");
    const [host] = items;
    const hasNetworks = host?.capabilities?.features.includes("networks");
    if (host?.state === "ready" && host.reported !== null && hasNetworks) return host;
    if (Date.now() > deadline)
      throw new Error(`this machine is not ready as a host: ${host?.reason?.text ?? "unknown"}`);
    await pause(50);
  }
}

/**
 * Raises the limits of the pool, so that a busy laptop or a full disk still runs six tiny web
 * servers.
 */
async function fillFurther(berth: DemoBerth): Promise<void> {
  await berth.request("PUT", "/v1/host-pools/default", {
    overcommitPercent: { cpuMillis: 400 },
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 100, volumeBytes: 100, rootfsBytes: 100 },
  });
}

/** The sets of the service, and its address. */
interface Web {
  known: Map<string, WebAnswer>;
  view: NetworkView;
  service: ServiceAddress;
}

async function scaleOutAndIn(screen: DemoScreen, berth: DemoBerth, web: Web): Promise<Scaling> {
  screen.heading("A hook, and an alert that triggers it");
  const { hook, token } = await berth.request<CreatedHook>(
    "POST",
    `/v1/services/${SERVICE}/hooks`,
    {
      name: "busy",
      rules: [{ match: { alertname: "WebBusy" }, want: { replicas: REPLICAS_MAX } }],
      stabilizationSeconds: STABILIZATION_SECONDS,
    },
  );
  screen.line(
    `while WebBusy fires: ${REPLICAS_MAX} sets; retained for ${STABILIZATION_SECONDS} s after it ends`,
  );
  const startsAt = new Date().toISOString();
  const deliver = async (status: "firing" | "resolved"): Promise<void> => {
    await request(
      berth.apiUrl + hook.paths.alertmanager,
      "POST",
      token,
      alertDelivery(SERVICE, status, startsAt),
    );
  };
  const timeline = { zeroMs: Date.now() };
  const events = await watchEvents(berth, SERVICE, (event) => {
    const text = describeEvent(event);
    const sinceMs = Date.parse(event.at) - timeline.zeroMs;
    if (text !== undefined && sinceMs >= 0) screen.moment(sinceMs, text);
  });
  const endpoints = await web.service.watch(timeline);
  try {
    const out = await scaleOut(screen, berth, web, timeline, deliver);
    screen.heading("The alert resolves");
    const scaleInMs = await scaleIn(screen, berth, web, timeline, deliver);
    return { ...out, scaledInTo: REPLICAS_MIN, scaleInMs };
  } finally {
    await endpoints.close();
    await events.close();
  }
}

interface CreatedHook {
  hook: { paths: { alertmanager: string } };
  token: string;
}
type Deliver = (status: "firing" | "resolved") => Promise<void>;

async function scaleOut(
  screen: DemoScreen,
  berth: DemoBerth,
  { known, view, service }: Web,
  timeline: { zeroMs: number },
  deliver: Deliver,
): Promise<{ scaledOutTo: number; firstNewSetMs: number; scaleOutMs: number }> {
  timeline.zeroMs = Date.now();
  const { zeroMs } = timeline;
  screen.moment(0, `Alertmanager's webhook: WebBusy fires`, "key");
  await deliver("firing");
  let firstNewSetMs = 0;
  let scaleOutMs = 0;
  await untilAnswering(berth, {
    service: SERVICE,
    count: REPLICAS_MAX,
    known,
    view,
    deadlineMs: STEP_DEADLINE_MS,
    onAnswer: (answer) => {
      scaleOutMs = answer.atMs - zeroMs;
      firstNewSetMs ||= scaleOutMs;
      screen.moment(scaleOutMs, describeAnswer(answer), "good");
    },
  });
  screen.moment(scaleOutMs, `all ${known.size} sets answer`, "key");
  await service.untilEndpoints(REPLICAS_MAX);
  await deliver("firing");
  screen.line();
  screen.line("The same delivery again changes nothing.");
  await showCommand(screen, berth, ["get", "decisions", SERVICE]);
  await showCommand(screen, berth, ["get", "endpoints", SERVICE]);
  service.figures.setsBehindAddress = await service.sample();
  return { scaledOutTo: known.size, firstNewSetMs, scaleOutMs };
}

async function scaleIn(
  screen: DemoScreen,
  berth: DemoBerth,
  { known, view }: Web,
  timeline: { zeroMs: number },
  deliver: Deliver,
): Promise<number> {
  timeline.zeroMs = Date.now();
  const { zeroMs } = timeline;
  screen.moment(0, "Alertmanager's webhook: WebBusy is resolved", "key");
  await deliver("resolved");
  const left = await untilLeft(berth, SERVICE, REPLICAS_MIN, STEP_DEADLINE_MS);
  const scaleInMs = Date.now() - zeroMs;
  screen.moment(
    scaleInMs,
    `${left.length} sets are left, ${scaleInMs - STABILIZATION_SECONDS * 1000} ms after the stabilization window`,
    "key",
  );
  const leftIds = new Set(left.map(({ id }) => id));
  for (const id of known.keys()) if (!leftIds.has(id)) view.forget(id);
  for (const set of left) {
    if ((await view.readPage(set)) === undefined)
      throw new Error(`${set.id} should remain, but does not answer`);
  }
  const [viewer = ""] = leftIds;
  for (const { set, address } of known.values()) {
    if (!leftIds.has(set.id) && (await view.readPageFrom(viewer, address)) !== undefined)
      throw new Error(`${set.id} was removed, but still answers at ${address}`);
  }
  screen.good(
    "the remaining sets answer, the others are deleted; Berth retains their volumes for a week",
  );
  await showCommand(screen, berth, ["volume", "trash"]);
  return scaleInMs;
}

function since(atMs: number): string {
  return `${((Date.now() - atMs) / 1000).toFixed(1)} s`;
}

/** Runs the real command line, like a user at this terminal. */
async function showCommand(
  screen: DemoScreen,
  berth: DemoBerth,
  args: readonly string[],
): Promise<void> {
  screen.command(`berth ${args.join(" ")}`);
  const { stdout, stderr } = await promisify(execFile)(path.join(root, "bin/berth"), [...args], {
    cwd: root,
    env: { PATH: process.env["PATH"], BERTH_DATA_DIR: berth.dataDir },
    timeout: 30_000,
  });
  for (const line of (stdout + stderr).trimEnd().split("\n")) screen.line(line);
}

/** Deletes everything in order, and continues after a failure. Returns the problems. */
async function tearDown(
  { screen, berth, network }: Stage,
  traces: Traces,
  isComplete: boolean,
): Promise<string[]> {
  screen.heading("Removal of everything");
  const problems: string[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    await work().catch((error: unknown) => problems.push(`${what}: ${messageOf(error)}`));
  };
  const { hostId } = traces;
  await attempt("closing the client", async () => await traces.service?.close());
  if (traces.isDeployed) {
    await attempt("deleting the service", async () => {
      const { items } = await berth.request<{ items: unknown[] }>("GET", "/v1/services");
      if (items.length === 0) return; // it failed before the service existed
      await berth.request("DELETE", `/v1/services/${SERVICE}`);
      await untilLeft(berth, SERVICE, 0, STEP_DEADLINE_MS);
    });
    await attempt("purging volumes", async () => await purgeVolumes(berth, STEP_DEADLINE_MS));
  }
  await attempt("stopping Berth", async () => await berth.stop());
  if (hostId !== undefined) {
    await attempt("removing containers", async () => {
      const names = await listContainers(hostId);
      if (names.length > 0) problems.push(`containers remain: ${names.join(", ")}`);
      await removeContainers(names);
      const cgroups = await listSetCgroups([...traces.known.keys()]);
      if (cgroups.length > 0) problems.push(`cgroups remain: ${cgroups.join(", ")}`);
    });
  }
  await attempt("stopping the network", async () => await network.stop());
  await attempt("removing images", async () => await removeNewImages(traces.imagesBefore));
  await attempt("removing the data", async () => await berth.removeData());
  // After Ctrl-C a step may still run: the next demo removes what it has created.
  if (isComplete && problems.length === 0) await forgetTraces();
  if (problems.length === 0)
    screen.good("containers, networks, cgroups, volumes, images and data are deleted");
  for (const problem of problems) screen.bad(problem);
  return problems;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function main(): Promise<number> {
  await mkdir(path.dirname(logFile), { recursive: true });
  const screen = new DemoScreen(logFile);
  const isOnce = process.argv.includes("--once");
  // A demo that was killed has left them.
  await removeDeadTraces();
  const berth = await DemoBerth.create(logFile);
  const stage = { screen, berth, network: new DemoNetwork(berth.dataDir) };
  const traces: Traces = {
    imagesBefore: await listImageIds(),
    hostId: undefined,
    isDeployed: false,
    known: new Map(),
    view: new NetworkView(),
    service: undefined,
  };
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => interrupted.abort());
  const untilInterrupted = once(interrupted.signal, "abort");
  let figures: Figures | undefined;
  let failure: string | undefined;
  try {
    const showing = showBerth(stage, traces, interrupted.signal);
    showing.catch(() => undefined); // reported below, unless Ctrl-C came first
    figures = await Promise.race([showing, untilInterrupted.then(() => undefined)]);
    if (figures && !isOnce) {
      showPlaces(screen, berth, { url: figures.url, logFile });
      await untilInterrupted;
    }
    if (!figures) failure = "interrupted";
  } catch (error) {
    failure = messageOf(error);
    screen.line();
    screen.bad(failure);
    screen.line(`Berth's log is in ${logFile}`);
  }
  const problems = await tearDown(stage, traces, figures !== undefined);
  failure ??= problems[0];
  screen.result(
    failure === undefined ? { ok: true, ...figures } : { ok: false, error: failure, log: logFile },
  );
  return failure === undefined ? 0 : 1;
}

// Not `exitCode`: after Ctrl-C a step of the demo may wait indefinitely.
process.exit(await main());
