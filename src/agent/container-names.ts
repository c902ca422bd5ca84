/** The name of every set's infra container; no business container may have it (contracts/api/set-template.ts). */
export const INFRA_CONTAINER = "infra";
