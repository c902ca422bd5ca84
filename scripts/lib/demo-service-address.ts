import type { Server } from "node:net";
import type { Service } from "../../src/contracts/api/services.ts";
import type { DemoBerth } from "./demo-berth.ts";
import { type Watch, watchEndpoints } from "./demo-events.ts";
import { SERVICE } from "./demo-manifest.ts";
import type { DemoScreen } from "./demo-screen.ts";
import { type NetworkView, type Requests, WEB_PORT } from "./demo-view.ts";
import { pause, readPage, type WebAnswer } from "./demo-watch.ts";

const POLL_MS = 50;
const ADDRESS_DEADLINE_MS = 30_000;
const PAGE_DEADLINE_MS = 10_000;
const ENDPOINTS_DEADLINE_MS = 30_000;
/** In this time the client sends about twenty requests. */
const SAMPLE_MS = 1_500;

export interface ServiceAddressFigures {
  /** Requests to the service address, from the deployment until the end of the scale-in. */
  serviceRequests: number;
  serviceRequestsFailed: number;
  /** The sets that answered after the scale-out. The client is a set, and never reaches itself. */
  setsBehindAddress: number;
  /** The largest number of endpoints in the stream. */
  endpointsMax: number;
}

/** The service behind its address: a client in the network, and a port of this machine. */
export interface ServiceAddress {
  /** A browser on this machine can open it. */
  url: string;
  figures: ServiceAddressFigures;
  /** Prints how many sets answer the client, and returns their number. */
  sample(): Promise<number>;
  /** Prints each change of the endpoints, with the time since `timeline.zeroMs`. */
  watch(timeline: { zeroMs: number }): Promise<Watch>;
  /** Resolves when the watched endpoints are as many. */
  untilEndpoints(count: number): Promise<void>;
  /** Ends the client. */
  endRequests(): Promise<void>;
  /** Closes the port of this machine, too. */
  close(): Promise<void>;
}

/** @param known the sets that answer; the oldest one is the client */
export async function openServiceAddress(
  screen: DemoScreen,
  berth: DemoBerth,
  { view, known }: { view: NetworkView; known: ReadonlyMap<string, WebAnswer> },
): Promise<ServiceAddress> {
  const address = await untilAddress(berth);
  const [client = ""] = [...known.keys()].sort();
  const figures: ServiceAddressFigures = {
    serviceRequests: 0,
    serviceRequestsFailed: 0,
    setsBehindAddress: 0,
    endpointsMax: 0,
  };
  const forwarder = await view.forward(() => view.listSets()[0], address);
  const url = `http://${describePort(forwarder)}/`;
  screen.good(`the service has the address ${address} in the network default`);
  screen.good(`${url} answers "${await untilPage(forwarder)}": open it in a browser`);
  // Nothing answers at the address before a set other than the client is ready.
  const requests = await view.startRequests(client, address);
  screen.line(
    `this machine has no route to the network, so the demo forwards that port to ${address}`,
  );
  const watched = { endpoints: 0 };
  const take = () => count(requests, figures);
  const endRequests = async () => {
    await requests.stop();
    take();
  };
  return {
    url,
    figures,
    sample: async () => {
      take();
      await pause(SAMPLE_MS);
      const { answers, failed } = take();
      const counts = [...answers.values()].sort((a, b) => b - a);
      screen.line(
        `a client in the network: ${counts.length === 1 ? "one set" : `${counts.length} sets`} answered ${counts.join(", ")} requests to http://${address}:${WEB_PORT}/, ${failed} failed`,
      );
      return counts.length;
    },
    watch: (timeline) => {
      let isFirst = true; // the list before the first change
      return watchEndpoints(berth, SERVICE, ({ total }) => {
        watched.endpoints = total;
        figures.endpointsMax = Math.max(figures.endpointsMax, total);
        if (!isFirst) screen.moment(Date.now() - timeline.zeroMs, `endpoints: ${total} sets`);
        isFirst = false;
      });
    },
    untilEndpoints: async (wanted) => {
      for (let waitedMs = 0; watched.endpoints !== wanted; waitedMs += POLL_MS) {
        if (waitedMs > ENDPOINTS_DEADLINE_MS)
          throw new Error(`the service has ${watched.endpoints} endpoints, not ${wanted}`);
        await pause(POLL_MS);
      }
    },
    endRequests,
    close: async () => {
      await endRequests();
      forwarder.close();
    },
  };
}

function count(requests: Requests, figures: ServiceAddressFigures) {
  const taken = requests.take();
  figures.serviceRequests += taken.requests;
  figures.serviceRequestsFailed += taken.failed;
  return taken;
}

async function untilAddress(berth: DemoBerth): Promise<string> {
  const deadlineMs = performance.now() + ADDRESS_DEADLINE_MS;
  for (;;) {
    const { addresses } = await berth.request<Service>("GET", `/v1/services/${SERVICE}`);
    const address = addresses[0]?.addresses[0];
    if (address !== undefined) return address;
    if (performance.now() > deadlineMs) throw new Error("the service has no address");
    await pause(POLL_MS);
  }
}

async function untilPage(forwarder: Server): Promise<string> {
  const deadlineMs = performance.now() + PAGE_DEADLINE_MS;
  for (;;) {
    const page = await readPage(describePort(forwarder));
    if (page !== undefined) return page;
    if (performance.now() > deadlineMs) throw new Error("the service address does not answer");
    await pause(POLL_MS);
  }
}

function describePort(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the port is not open");
  return `127.0.0.1:${address.port}`;
}
