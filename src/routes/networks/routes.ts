import { type Api, mount } from "../http/operation.ts";
import { createNetworkHandler, createNetworkRoute } from "./create-network.ts";
import { deleteNetworkHandler, deleteNetworkRoute } from "./delete-network.ts";
import { getNetworkHandler, getNetworkRoute } from "./get-network.ts";
import {
  listNetworkAddressesHandler,
  listNetworkAddressesRoute,
} from "./list-network-addresses.ts";
import { listNetworksHandler, listNetworksRoute } from "./list-networks.ts";
import { patchNetworkHandler, patchNetworkRoute } from "./patch-network.ts";

export function mountNetworks(api: Api): void {
  mount(api, createNetworkRoute, createNetworkHandler);
  mount(api, listNetworksRoute, listNetworksHandler);
  mount(api, getNetworkRoute, getNetworkHandler);
  mount(api, patchNetworkRoute, patchNetworkHandler);
  mount(api, deleteNetworkRoute, deleteNetworkHandler);
  mount(api, listNetworkAddressesRoute, listNetworkAddressesHandler);
}
