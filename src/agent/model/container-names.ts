/**
 * The name of every set's infra container. The template schema reserves it
 * (contracts/api/set-template.ts).
 */
export const INFRA_CONTAINER = "infra";
