import { isAddressIn } from "../../contracts/network-driver/network-state.ts";
import { DriverError } from "../model/driver-error.ts";
import { requestAddressSchema, requestPoolSchema } from "./docker-bodies.ts";
import { defineCall, type DockerCall } from "./docker-call.ts";

/**
 * Docker's calls for addresses. The control plane is the only source of addresses, so these calls
 * reserve nothing and have no state. They check that Docker names an address of the pool. The
 * creation of an endpoint refuses an address that a running container has. Docker's own IPAM driver
 * would refuse a second network with an overlapping subnet.
 *
 * The id of a pool is this prefix and its subnet.
 */
const POOL_PREFIX = "berth/";

export const ipamCalls: Readonly<Record<string, DockerCall>> = {
  "IpamDriver.GetCapabilities": defineCall(undefined, async () => ({
    RequiresMACAddress: false,
    RequiresRequestReplay: false,
  })),
  "IpamDriver.GetDefaultAddressSpaces": defineCall(undefined, async () => ({
    LocalDefaultAddressSpace: "berth",
    GlobalDefaultAddressSpace: "berth",
  })),
  "IpamDriver.RequestPool": defineCall(requestPoolSchema, async ({ Pool, SubPool }) => {
    if (Pool === undefined)
      throw new DriverError("The network needs a subnet. Repeat with --subnet and --gateway.");
    if (SubPool !== undefined)
      throw new DriverError(
        "Berth chooses the addresses of its networks. Repeat without --ip-range.",
      );
    return { PoolID: `${POOL_PREFIX}${Pool}`, Pool, Data: {} };
  }),
  "IpamDriver.ReleasePool": defineCall(undefined, async () => ({})),
  "IpamDriver.RequestAddress": defineCall(requestAddressSchema, async ({ PoolID, Address }) => {
    const subnet = PoolID.startsWith(POOL_PREFIX) ? PoolID.slice(POOL_PREFIX.length) : "";
    if (Address === undefined)
      throw new DriverError(
        `The driver chooses no address. Specify an address in ${subnet}: --gateway for a network, --ip or --ip6 for a container.`,
      );
    if (!isAddressIn(Address, subnet))
      throw new DriverError(`${Address} is not in the subnet ${subnet}.`);
    return { Address: `${Address}${subnet.slice(subnet.indexOf("/"))}`, Data: {} };
  }),
  "IpamDriver.ReleaseAddress": defineCall(undefined, async () => ({})),
};
