import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { type AnsweringProxy, startAnsweringProxy } from "../servers/answering-proxy.ts";
import { createTestApi, type TestApi } from "./test-api.ts";

/** An API on a port of its own, behind a proxy whose answers a test can replace. */
export interface ProxiedApi {
  api: TestApi;
  proxy: AnsweringProxy;
  close(): Promise<void>;
}

export async function startProxiedApi(): Promise<ProxiedApi> {
  const api = await createTestApi();
  const server = createAdaptorServer({ fetch: api.api.app.fetch });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const proxy = await startAnsweringProxy(`http://127.0.0.1:${port}`);
  return {
    api,
    proxy,
    close: async () => {
      await proxy.close();
      server.close();
      await once(server, "close");
      await api.close();
    },
  };
}
