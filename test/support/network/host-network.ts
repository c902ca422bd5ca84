/** The members of a HostNetwork that most tests do not vary. */
export const networkBasics = {
  tenantId: "tnt_01jd0000000000000000000000",
  name: "default",
  rules: [],
  endConnectionsCount: 0,
  services: [],
};
