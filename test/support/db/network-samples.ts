import * as endpoints from "../../../src/db/queries/services/endpoints.ts";
import * as addresses from "../../../src/db/queries/networks/addresses.ts";
import * as assignAddresses from "../../../src/db/queries/networks/assign-addresses.ts";
import * as attachments from "../../../src/db/queries/networks/template-networks.ts";
import * as hostNetworks from "../../../src/db/queries/networks/host-networks.ts";
import * as connectionEnds from "../../../src/db/queries/rules/connection-ends.ts";
import * as hostRules from "../../../src/db/queries/rules/host-rules.ts";
import * as readRules from "../../../src/db/queries/rules/read-rules.ts";
import * as writeRules from "../../../src/db/queries/rules/write-rules.ts";
import * as gateways from "../../../src/db/queries/networks/gateways.ts";
import * as serviceAddresses from "../../../src/db/queries/networks/service-addresses.ts";
import * as unknownAddresses from "../../../src/db/queries/networks/unknown-addresses.ts";
import * as networks from "../../../src/db/queries/networks/networks.ts";
import * as hostPorts from "../../../src/db/queries/placement/host-ports.ts";
import type { Samples } from "./volume-samples.ts";

const subnet = {
  id: "sub",
  family: 4,
  cidr: "10.0.0.0/24",
  gateway: "10.0.0.1",
  pools: [],
  reservations: [],
  ranges: [[2, 254]],
  usable: 253,
} as const;
const network = {
  id: "net",
  tenantId: "tnt",
  name: "web",
  subnets: [{ ...subnet, pools: [], reservations: [] }],
};

const ids = ["a", "b"];
const unwanted = { serviceId: "svc", subnetId: "sub" };
const rule = {
  direction: "ingress",
  action: "deny",
  protocol: "tcp",
  ports: [{ first: 80, last: 81 }],
  serviceId: "svc",
  peerKind: "cidr",
  peerCidr: "10.0.0.0/8",
  peerServiceId: null,
  priority: 1000,
} as const;
const newRule = { ...rule, id: "rule", tenantId: "tnt", networkId: "net", name: "no-web" };
const chosen = {
  setId: "set",
  hostId: "host",
  networkId: "net",
  subnetId: "sub",
  address: "10.0.0.2",
  networkIndex: 0,
  mac: "0a:00:0a:00:00:02",
  isReused: false,
};

const gatewayClaim = {
  protocol: "tcp",
  port: 443,
  serviceId: "svc",
  networkId: "net",
  name: "https",
} as const;
const gatewayAddress = { subnetId: "sub", address: "10.0.0.2", mac: chosen.mac, isReused: false };

const unknownAddress = {
  setId: "set",
  networkId: "net",
  networkIndex: 0,
  mac: "0a:00:0a:00:00:02",
  address: "10.0.0.2",
};
const lostServiceAddress = { serviceId: "svc", networkId: "net", address: "10.0.0.3" };
const reportedNetwork = { networkId: "net", mac: unknownAddress.mac, addresses: ["10.0.0.2"] };

export const networkSamples: Samples = {
  listGateways: (q) => [gateways.listGateways(q, "", 2)],
  readGatewayClaims: (q) => [gateways.readGatewayClaims(q, ids)],
  lockGateway: (q) => [gateways.lockGateway(q, "host")],
  deleteGatewayPorts: (q) => [
    gateways.deleteGatewayPorts(q, "host", []),
    gateways.deleteGatewayPorts(q, "host", [gatewayClaim]),
  ],
  insertGatewayPorts: (q) => [
    gateways.insertGatewayPorts(q, "host", []),
    gateways.insertGatewayPorts(q, "host", [gatewayClaim]),
  ],
  findPreviousGatewayAddresses: (q) => [gateways.findPreviousGatewayAddresses(q, "host", ids)],
  insertGatewayAddresses: (q) => [
    gateways.insertGatewayAddresses(q, "host", [], []),
    gateways.insertGatewayAddresses(
      q,
      "host",
      [gatewayAddress],
      [{ subnetId: "sub", lastOffset: 2 }],
    ),
  ],
  listGatewayServices: (q) => [gateways.listGatewayServices(q, "host")],
  findGatewayOfNetwork: (q) => [addresses.findGatewayOfNetwork(q, "net")],
  confirmGatewayDepartures: (q) => [gateways.confirmGatewayDepartures(q, "host", ids)],
  quarantineGatewayAddresses: (q) => [
    gateways.quarantineGatewayAddresses(q, "host", []),
    gateways.quarantineGatewayAddresses(q, "host", ids),
  ],
  noteAllAddressesUnknown: (q) => [unknownAddresses.noteAllAddressesUnknown(q)],
  noteUnknownAddresses: (q) => [unknownAddresses.noteUnknownAddresses(q, "host")],
  findAddressRequest: (q) => [unknownAddresses.findAddressRequest(q, "host")],
  endAddressRequest: (q) => [unknownAddresses.endAddressRequest(q, "host")],
  listPermittedClaims: (q) => [
    unknownAddresses.listPermittedClaims(q, { hostId: "host", isAfterRestore: true }, [
      { setId: "set", networks: [reportedNetwork] },
    ]),
  ],
  lockSubnetsOfNetworks: (q) => [unknownAddresses.lockSubnetsOfNetworks(q, ids)],
  claimUnknownAddresses: (q) => [
    unknownAddresses.claimUnknownAddresses(q, "host", [unknownAddress], 1),
  ],
  insertNetworks: (q) => [networks.insertNetworks(q, [network])],
  lockNetwork: (q) => [
    networks.lockNetwork(q, "tnt", "web"),
    networks.lockNetwork(q, "tnt", "web", true),
  ],
  findEndpoints: (q) => [endpoints.findEndpoints(q, "tnt", "web", 1)],
  hasNetwork: (q) => [networks.hasNetwork(q, "tnt", "web")],
  countNetworks: (q) => [networks.countNetworks(q, "tnt")],
  lockSubnetsOf: (q) => [networks.lockSubnetsOf(q, "net")],
  replaceSubnets: (q) => [networks.replaceSubnets(q, "net", network.subnets)],
  deleteNetworkRow: (q) => [networks.deleteNetworkRow(q, "net")],
  listServicesOfNetwork: (q) => [networks.listServicesOfNetwork(q, "tnt", "web", 1)],
  listNetworks: (q) => [
    networks.listNetworks(q, null, undefined, 1),
    networks.listNetworks(q, "tnt", "net", 1),
  ],
  findNetwork: (q) => [networks.findNetwork(q, "tnt", "web")],
  listNetworkAddresses: (q) => [
    addresses.listNetworkAddresses(q, "net", undefined, 1),
    addresses.listNetworkAddresses(q, "net", "fd00::1", 1),
  ],
  dropAddressesOutside: (q) => [addresses.dropAddressesOutside(q, "sub", [[2, 254]])],
  listSetAttachments: (q) => [
    attachments.listSetAttachments(q, ["set"]),
    attachments.listSetAttachments(q, ids),
  ],
  listTemplateNetworks: (q) => [
    attachments.listTemplateNetworks(q, { tenantId: "tnt", serviceId: "svc" }, [
      { network: "web" },
    ]),
  ],
  listNetworkNames: (q) => [
    networks.listNetworkNames(q, "tnt", ["web"], true),
    networks.listNetworkNames(q, "tnt", ["web", "db"], false),
  ],
  listSubnetRanges: (q) => [networks.listSubnetRanges(q, "tnt", ids)],
  findStaticAddresses: (q) => [
    assignAddresses.findStaticAddresses(q, [
      { setId: "set", subnetId: "sub", address: "10.0.0.2" },
    ]),
  ],
  claimSubnets: (q) => [
    assignAddresses.claimSubnets(q, ["sub"]),
    assignAddresses.claimSubnets(q, ids),
  ],
  findFreeAddresses: (q) => [assignAddresses.findFreeAddresses(q, [{ subnetId: "sub", count: 2 }])],
  findPreviousAddresses: (q) => [
    assignAddresses.findPreviousAddresses(q, ["set"], ["sub"]),
    assignAddresses.findPreviousAddresses(q, ids, ids),
  ],
  listSubnetsOfSets: (q) => [
    assignAddresses.listSubnetsOfSets(q, ["set"]),
    assignAddresses.listSubnetsOfSets(q, ids),
  ],
  listUnaddressedServices: (q) => [
    serviceAddresses.listUnaddressedServices(q, { after: "", isLacking: false, limit: 1 }),
    serviceAddresses.listUnaddressedServices(q, { after: "svc", isLacking: true, limit: 1 }),
  ],
  claimServicesToAddress: (q) => [
    serviceAddresses.claimServicesToAddress(q, ["svc"]),
    serviceAddresses.claimServicesToAddress(q, ids),
  ],
  findPreviousServiceAddresses: (q) => [
    serviceAddresses.findPreviousServiceAddresses(q, ids, ["sub"]),
  ],
  insertServiceAddresses: (q) => [
    serviceAddresses.insertServiceAddresses(
      q,
      [{ ...unwanted, networkId: "net", address: "10.0.0.2", isReused: false }],
      [{ subnetId: "sub", lastOffset: 2 }],
    ),
  ],
  quarantineServiceAddresses: (q) => [serviceAddresses.quarantineServiceAddresses(q, [unwanted])],
  markAddressed: (q) => [serviceAddresses.markAddressed(q, { complete: ids, lacking: ["svc"] })],
  auditServiceAddresses: (q) => [serviceAddresses.auditServiceAddresses(q, "", 10)],
  findFleetNetwork: (q) => [hostNetworks.findFleetNetwork(q, "net")],
  listNetworksOnHost: (q) => [hostNetworks.listNetworksOnHost(q, "host")],
  readNetworksOnHosts: (q) => [
    hostNetworks.readNetworksOnHosts(q, ["host"]),
    hostNetworks.readNetworksOnHosts(q, ids),
  ],
  insertAddresses: (q) => [
    assignAddresses.insertAddresses(q, [chosen], [{ subnetId: "sub", lastOffset: 2 }]),
  ],
  deleteQuarantinedAddresses: (q) => [
    assignAddresses.deleteQuarantinedAddresses(q, 600, { addressesMax: 10, subnetsMax: 2 }),
  ],
  listScarcestSubnets: (q) => [assignAddresses.listScarcestSubnets(q, 10)],
  lockRuleServices: (q) => [
    writeRules.lockRuleServices(q, "tnt", ["web"]),
    writeRules.lockRuleServices(q, "tnt", ids),
  ],
  lockRuleNetworks: (q) => [
    writeRules.lockRuleNetworks(q, "tnt", ["web"]),
    writeRules.lockRuleNetworks(q, "tnt", ids),
  ],
  listRulePorts: (q) => [writeRules.listRulePorts(q, ids)],
  countRules: (q) => [writeRules.countRules(q, "tnt")],
  insertRules: (q) => [writeRules.insertRules(q, [newRule])],
  updateRule: (q) => [writeRules.updateRule(q, "rule", rule)],
  deleteRuleRow: (q) => [writeRules.deleteRuleRow(q, "rule")],
  bumpRulesVersions: (q) => [
    writeRules.bumpRulesVersions(q, ["net"], true),
    writeRules.bumpRulesVersions(q, ids, false),
  ],
  listRules: (q) => [
    readRules.listRules(q, null, {}, undefined, 1),
    readRules.listRules(q, "tnt", { network: "web", service: "menu" }, "rule", 1),
  ],
  listRulesById: (q) => [readRules.listRulesById(q, ids)],
  findRule: (q) => [readRules.findRule(q, "tnt", "no-web")],
  listHostRules: (q) => [
    hostRules.listHostRules(q, ["net"]),
    hostRules.listHostRules(q, ids, { serviceIds: ids, protocol: "tcp" }),
  ],
  listInterfacesOfSet: (q) => [connectionEnds.listInterfacesOfSet(q, "tnt", "set")],
  listInterfacesOfService: (q) => [connectionEnds.listInterfacesOfService(q, "svc", 2)],
  listServicesWithAddress: (q) => [connectionEnds.listServicesWithAddress(q, "tnt", "fd00::2")],
  listInterfacesWithAddress: (q) => [
    connectionEnds.listInterfacesWithAddress(q, "tnt", "10.0.0.2"),
  ],
  listTakenHostPorts: (q) => [hostPorts.listTakenHostPorts(q, [{ protocol: "tcp", port: 80 }])],
  listUsedHostPorts: (q) => [
    hostPorts.listUsedHostPorts(q, ["host"]),
    hostPorts.listUsedHostPorts(q, ids),
  ],
  listPortsOfSets: (q) => [
    hostPorts.listPortsOfSets(q, ["set"]),
    hostPorts.listPortsOfSets(q, ids),
  ],
  updateHostPorts: (q) => [
    hostPorts.updateHostPorts(q, "host", [
      { hostId: "host", protocol: "tcp", port: 80, setId: "set", name: "http" },
    ]),
  ],
  insertHostPorts: (q) => [
    hostPorts.insertHostPorts(q, [
      { hostId: "host", protocol: "tcp", port: 80, setId: "set", name: "http" },
    ]),
  ],
  listLostServiceAddresses: (q) => [
    serviceAddresses.listLostServiceAddresses(q, [lostServiceAddress]),
  ],
  quarantineLostServiceAddresses: (q) => [
    serviceAddresses.quarantineLostServiceAddresses(q, [lostServiceAddress]),
  ],
  claimUnknownHostPorts: (q) => [
    hostPorts.claimUnknownHostPorts(q, "host", [{ setId: "set", protocol: "tcp", port: 80 }]),
  ],
  findSetOfNetwork: (q) => [addresses.findSetOfNetwork(q, "net")],
};
